"""How many classes there are in the labels of a source."""

import dataclasses
from collections.abc import Sized
from typing import Optional

from ssltyped import config
from ssltyped.types import Source

MOST_IMAGES = 100_000
"""The labels of more images are not all looked at before a run."""


@dataclasses.dataclass(frozen=True)
class LabelCount:
    """What labels are.

    Args:
        classes: one more than the largest class, or the length of the rows; None: not known
        rows: whether they are rows of 1, 0 and -1
    """

    classes: Optional[int] = None
    rows: bool = False


def label_count(source: Source) -> LabelCount:
    """That of a source; nothing is known of one without images or labels, or with very many images."""
    if not source.labelled or not 0 < len(source) <= MOST_IMAGES:
        return LabelCount()
    first = source.label(0)
    if isinstance(first, Sized):
        return LabelCount(len(first), rows=True)
    labels = map(source.label, range(len(source)))
    return LabelCount(1 + max(int(label) for label in labels if not isinstance(label, Sized)))


class LabelCounts:
    """Those of the configs of sources, each looked at once."""

    def __init__(self) -> None:
        self._known: dict[str, LabelCount] = {}

    def __call__(self, source: Optional[Source]) -> LabelCount:
        """Nothing is known without a source, or of one that is not here."""
        if source is None:
            return LabelCount()
        if (key := config.to_yaml(source)) not in self._known:
            try:
                self._known[key] = label_count(config.build(source))
            except (OSError, ValueError):
                self._known[key] = LabelCount()
        return self._known[key]

"""How many classes there are in the labels of a source."""

import dataclasses
from collections.abc import Sized
from typing import Optional

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
    if not source.labelled or not len(source):
        return LabelCount()
    first = source.label(0)
    if isinstance(first, Sized):
        return LabelCount(len(first), rows=True)
    if source.classes:
        return LabelCount(len(source.classes))
    if len(source) > MOST_IMAGES:
        return LabelCount()
    labels = map(source.label, range(len(source)))
    return LabelCount(1 + max(int(label) for label in labels if not isinstance(label, Sized)))

"""How many classes there are in the labels of a source."""

import dataclasses
from typing import Optional

import numpy as np

from ssltyped.types import Source, labels_of

MOST_NUMBERS = 100_000
"""Labels that are more numbers than these are not all looked at before a run."""


@dataclasses.dataclass(frozen=True)
class LabelCount:
    """What labels are.

    Args:
        classes: one more than the largest class, or the length of the rows; None: not known
        rows: whether they are rows of 1, 0 and -1
        wrong: why some are no labels; empty: all that were looked at are
    """

    classes: Optional[int] = None
    rows: bool = False
    wrong: str = ""


def label_count(source: Source) -> LabelCount:
    """That of a source; nothing is known of one without images or labels, or with very many images."""
    if not source.labelled or not len(source):
        return LabelCount()
    try:
        first = next(labels_of(source, [0]))
        all_of_them = len(source) * np.size(first) <= MOST_NUMBERS
        labels = labels_of(source, range(len(source))) if all_of_them else iter([first])
        highest = max(label if isinstance(label, int) else 0 for label in labels)
    except (OSError, ValueError) as error:
        return LabelCount(wrong=str(error))
    if isinstance(first, list):
        return LabelCount(len(first), rows=True)
    return LabelCount(len(source.classes) or (1 + highest if all_of_them else None))

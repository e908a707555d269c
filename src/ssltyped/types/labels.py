"""The labels that a source gives, looked at where they come in: the wrong kind is an error with the image's number."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Optional, TypeAlias

import numpy as np

from ssltyped.config.hints import brief, listed
from ssltyped.types.border import described
from ssltyped.types.parts import Source

Label: TypeAlias = int | list[int]
"""A class, or a row of 1, 0 and -1, one a class (see `Target`)."""

MOST = 2**63 - 1
"""The largest class that a tensor of labels can hold."""

NO_LABEL = "a label is a whole number from 0, or a row of 1, 0 and -1"


def image_of(source: Source, index: int) -> str:
    """Whose image it is, in an error."""
    return f"{type(source).__name__}, image {index} ({source.name(index)}),"


def check_classes(source: Source) -> None:
    """Raises ValueError for names of classes that are no texts, or by which two classes could not be told apart."""
    names: object = source.classes
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        what = brief(str(names)) if isinstance(names, list | tuple) else described(names)
        raise ValueError(f"{type(source).__name__} gave the classes {what}: they are a list or tuple of texts")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"{type(source).__name__} has classes of the same name: {listed(twice)}")


def labels_of(source: Source, images: Iterable[int]) -> Iterator[Label]:
    """The labels of these images, whatever kind of whole numbers they come in.

    Raises ValueError for what is no label, is none of the source's classes, or is of another kind than the first.
    """
    num_classes = len(source.classes)
    first: Optional[Label] = None
    for index in images:
        given: object = source.label(index)
        label = _plain(given)
        fault = NO_LABEL if label is None else _fault(label, first, num_classes)
        if label is None or fault:
            what = brief(str(given)) if isinstance(given, list) else described(given)
            remedy = "; if some images have none, leave them out, or say labelled = False" if given is None else ""
            raise ValueError(f"{image_of(source, index)} gave the label {what}: {fault}{remedy}")
        first = label if first is None else first
        yield label


def _plain(given: object) -> Optional[Label]:
    """A label in Python's numbers; None for what is none."""
    if type(given) is int:
        return given
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):  # rows of several lengths, a tensor that is not on the CPU
        return None
    if array.dtype.kind not in "iu" or array.ndim > 1:
        return None
    plain: Label = array.tolist()
    return plain


def _fault(label: Label, first: Optional[Label], num_classes: int) -> str:
    """What is wrong with whole numbers as a label after the first one; empty if nothing is."""
    if isinstance(label, int):
        if not 0 <= label <= MOST:
            return "a class is a number from 0" if label < 0 else "a class has at most 63 bits"
        if num_classes and label >= num_classes:
            return f"there are {num_classes} classes, from 0"
    elif not label or not {1, 0, -1}.issuperset(label):
        return "a row has 1, 0 or -1 for each class"
    elif num_classes and len(label) != num_classes:
        return f"it has {len(label)} numbers, and there are {num_classes} classes"
    if first is not None and np.shape(label) != np.shape(first):
        return f"others are {'numbers' if isinstance(first, int) else f'rows of {len(first)}'}"
    return ""

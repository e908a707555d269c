"""The labels of two sets of images, matched by the names of their classes: a number means nothing outside its set."""

from collections.abc import Sequence

from ssltyped.config.hints import listed
from ssltyped.data.relabelled import WithOtherLabels
from ssltyped.types import Label, Source, labels_of


def mismatch(theirs: Source, ours: Source, *, whose: tuple[str, str] = ("data.val", "data.train")) -> str:
    """Why the labels of `theirs` (evaluated on) cannot be told in those of `ours` (trained on); empty: they can.

    Classes of the same name are the same; `ours` may have more. Two sets without names have numbers that mean the same.
    `whose`: what the two are called.
    """
    of_theirs, of_ours = whose
    if bool(theirs.classes) != bool(ours.classes):
        named, other = (of_theirs, of_ours) if theirs.classes else (of_ours, of_theirs)
        names = listed(theirs.classes or ours.classes)
        return f"the classes of {named} have names ({names}), those of {other} are numbers: give class_names there too"
    if unknown := sorted(set(theirs.classes) - set(ours.classes)):
        return (
            f"{of_theirs} has classes that {of_ours} has not: {listed(unknown)}; {of_ours} has {listed(ours.classes)}"
        )
    return ""


def matched(theirs: Source, ours: Source) -> Source:
    """`theirs` with the labels that its classes have in `ours`. Raises ValueError if they cannot be told there."""
    if not (theirs.labelled and ours.labelled) or tuple(theirs.classes) == tuple(ours.classes):
        return theirs
    if reason := mismatch(theirs, ours):
        raise ValueError(reason)
    numbers = {name: number for number, name in enumerate(ours.classes)}
    return Renumbered(source=theirs, numbers=[numbers[name] for name in theirs.classes], classes=ours.classes)


class Renumbered(WithOtherLabels):
    """A source whose class c is class `numbers[c]` of `classes`; what those have beyond it is unknown in a row (-1).

    Args:
        source: the images
        numbers: the new number of each of its classes
        classes: the names by the new numbers
    """

    def __init__(self, *, source: Source, numbers: Sequence[int], classes: Sequence[str]) -> None:
        self.source, self.numbers, self._classes = source, list(numbers), tuple(classes)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def label(self, index: int) -> Label:
        label = next(labels_of(self.source, [index]))
        if isinstance(label, int):
            return self.numbers[label]
        row = [-1] * len(self.classes)
        for number, value in zip(self.numbers, label, strict=True):
            row[number] = value
        return row

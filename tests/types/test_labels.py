"""What a source gives as a label: every kind of whole number is one, everything else an error with the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
import torch

from ssltyped.types import Image, Label, Source, check_classes, labels_of


class Given(Source):
    """Gives what it is made of."""

    def __init__(self, given: Sequence[object], classes: Sequence[str] = ()) -> None:
        self.given, self._classes = given, classes

    def __len__(self) -> int:
        return len(self.given)

    def read(self, index: int) -> Image:
        raise NotImplementedError

    def name(self, index: int) -> str:
        return f"number {index}"

    @property
    def classes(self) -> Sequence[str]:
        return self._classes

    def label(self, index: int) -> int:
        return cast(int, self.given[index])


def labels(source: Source) -> list[Label]:
    return list(labels_of(source, range(len(source))))


def test_every_kind_of_whole_number() -> None:
    kinds = [3, np.int64(3), np.uint8(3), torch.tensor(3), torch.tensor(3, dtype=torch.int32), np.array(3), 2**63 - 1]
    found = labels(Given(kinds))
    assert found == [3, 3, 3, 3, 3, 3, 2**63 - 1]
    assert {type(label) for label in found} == {int}
    rows = labels(Given([[1, -1], (0, 1), np.array([0, 1], dtype=np.int8), torch.tensor([1, 0])]))
    assert rows == [[1, -1], [0, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"None: a label is a whole number from 0, or a row of 1, 0 and -1; if some images have none, leave"),
        (1.0, r"1\.0: a label is a whole number"),
        (True, "True: a label is a whole number"),
        ("1", "'1': a label is a whole number"),
        (np.float32(1), r"a builtins|numpy\.float32: a label is"),
        (np.bool_(True), "a numpy.*bool.*: a label is"),
        (torch.tensor(1.5), r"a torch\.float32 tensor \[\]: a label is"),
        (torch.tensor(1, device="meta"), r"a torch\.int64 tensor \[\] on meta: a label is"),
        (np.array("1"), "a label is a whole number"),
        ({"class": 1}, "a builtins.dict: a label is"),
        ([[1, 0]], r"\[\[1, 0\]\]: a label is a whole number"),
        ([[1], [1, 0]], "a label is a whole number"),
        ([], r"\[\]: a label is a whole number"),
        (np.zeros(0, dtype=np.int64), r"\[0\]: a row has 1, 0 or -1"),
        (-1, "-1: a class is a number from 0"),
        (np.int8(-1), "-1: a class is a number from 0|a class is a number from 0"),
        (2**63, "9223372036854775808: a class has at most 63 bits"),
        (2**70, "a label is a whole number|a class has at most 63 bits"),
        (np.uint64(2**63), "a class has at most 63 bits"),
        ([0, 2], r"\[0, 2\]: a row has 1, 0 or -1 for each class"),
        ([0, 0.5], "a label is a whole number"),
        ([True, False], "a label is a whole number"),
    ],
)
def test_what_is_no_label(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^Given, image 0 \(number 0\), gave the label .*(?:{message})"):
        labels(Given([given]))


@pytest.mark.parametrize(
    ("given", "classes", "message"),
    [
        ([0, [1, 0]], (), r"\[1, 0\]: others are numbers"),
        ([[1, 0], 0], (), "0: others are rows of 2"),
        ([[1, 0], [1, 0, 0]], (), r"\[1, 0, 0\]: others are rows of 2"),
        ([1, 2], ("a", "b"), "2: there are 2 classes, from 0"),
        ([[1, 0], [1, 0, 0]], ("a", "b"), r"\[1, 0, 0\]: it has 3 numbers, and there are 2 classes"),
    ],
)
def test_what_does_not_go_with_the_others(given: Sequence[object], classes: Sequence[str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^Given, image 1 \(number 1\), gave the label {message}$"):
        labels(Given(given, classes))


def test_names_of_classes() -> None:
    for names in ((), ["a", "b"], ("0", "1")):
        check_classes(Given([0], names))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b", "a"), "has classes of the same name: a$"),
        ([0, 1], r"gave the classes \[0, 1\]: they are a list or tuple of texts"),
        (None, "gave the classes None: they are"),
        ("ab", "gave the classes 'ab': they are"),
        (np.array(["a", "b"]), r"gave the classes a <U1 numpy array \[2\]: they are"),
    ],
)
def test_what_are_no_names_of_classes(names: object, message: str) -> None:
    """By a name that two classes have, those of another set would be taken for either."""
    with pytest.raises(ValueError, match=f"^Given {message}"):
        check_classes(Given([0], cast(Sequence[str], names)))

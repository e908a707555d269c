"""Classes of the labels of a source: of numbers, of rows, and where nothing is known."""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
import pytest
import torch
from tiny import Patches

from ssltyped.data import label_count as module
from ssltyped.data.label_count import LabelCount, label_count


class Rows(Patches):
    """Three classes at once."""

    def label(self, index: int) -> list[int]:  # type: ignore[override]  # of another source
        return [1, 0, -1]


def test_classes_and_rows() -> None:
    assert label_count(Patches(count=9)) == LabelCount(4)
    assert label_count(Rows(count=9)) == LabelCount(3, rows=True)
    assert label_count(Patches(count=9, has_labels=False)) == LabelCount()


def test_numbers_of_numpy_and_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Patches(count=9)
    for number in (np.int64, torch.tensor):
        monkeypatch.setattr(source, "label", number)
        assert label_count(source) == LabelCount(9)


def test_very_many_images_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NUMBERS", 8)
    assert label_count(Patches(count=9)) == LabelCount()
    assert label_count(Patches(count=8)) == LabelCount(4)


class Named(Patches):
    """Four classes of five."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("a", "b", "c", "d", "e")


def test_names_are_counted_without_a_look_at_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NUMBERS", 8)
    assert label_count(Named(count=9)) == LabelCount(5)


class Gaps(Named):
    """One image has no label."""

    def label(self, index: int) -> int:
        return cast(int, None) if index == 7 else 0


def test_what_is_no_label_is_told_also_where_classes_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert label_count(Gaps(count=9)).wrong.startswith("Gaps, image 7 (patches/7.png), gave the label None: a label is")
    monkeypatch.setattr(module, "MOST_NUMBERS", 8)
    assert label_count(Gaps(count=9)) == LabelCount(5)


class LookedAt(Rows):
    """Notes which labels are asked for."""

    asked: ClassVar[list[int]] = []

    def label(self, index: int) -> list[int]:  # type: ignore[override]  # of another source
        self.asked.append(index)
        return super().label(index)


@pytest.mark.parametrize(("most", "asked"), [(27, [0, *range(9)]), (26, [0])])
def test_rows_count_by_their_numbers(most: int, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nine rows of three."""
    LookedAt.asked.clear()
    monkeypatch.setattr(module, "MOST_NUMBERS", most)
    assert label_count(LookedAt(count=9)) == LabelCount(3, rows=True)
    assert LookedAt.asked == asked

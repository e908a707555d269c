"""Classes of the labels of a source: of numbers, of rows, and where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
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


def test_numbers_of_numpy() -> None:
    source = Patches(count=9)
    source.label = lambda index: np.int64(index)  # type: ignore[method-assign, assignment, return-value]  # a plug-in's
    assert label_count(source) == LabelCount(9)


def test_very_many_images_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 8)
    assert label_count(Patches(count=9)) == LabelCount()
    assert label_count(Patches(count=8)) == LabelCount(4)


class Named(Patches):
    """Four classes of five."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("a", "b", "c", "d", "e")


def test_names_are_counted_without_a_look_at_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 8)
    assert label_count(Named(count=9)) == LabelCount(5)

"""Rows of targets: of several classes, and of one class with smoothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import FACTS

from ssltyped.config.resolve import problems_of, resolve
from ssltyped.data.image_list import ImageList
from ssltyped.data.targets import OneHot, OneHotConf, classes_of, one_hot, target_rows
from ssltyped.types import Batch, Facts

RANDOM = np.random.default_rng(0)


def batch(label: torch.Tensor | None) -> Batch:
    return Batch(views=(torch.zeros(3, 1, 2, 2),), index=torch.arange(3), label=label)


def test_rows_say_what_is_there_what_is_not_and_what_is_unknown() -> None:
    rows = target_rows([[0], [2, 1], []], [[1], [0, 2], []], 4)
    assert rows.tolist() == [[1, 0, -1, -1], [0, 1, 1, -1], [-1, -1, -1, -1]], "a class that is both is there"
    assert rows.dtype == np.int64


@pytest.mark.parametrize("number", [4, -1])
def test_a_number_that_is_no_class(number: int) -> None:
    with pytest.raises(ValueError, match=f"{number} is no class: there are 4, from 0"):
        target_rows([[number]], [[]], 4)


def test_rows_are_the_labels_of_a_list(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", target_rows([[0], [1]], [[1], []], 3))
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    source = ImageList(path=tmp_path / "list.txt", labels=tmp_path / "labels.npy")
    assert [source.label(i) for i in range(2)] == [[1, 0, -1], [-1, 1, -1]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_one_hot(smoothing: float) -> None:
    rows = one_hot(torch.tensor([2, 0]), 4, smoothing)
    for row, label in zip(rows.tolist(), (2, 0), strict=True):
        assert row == pytest.approx([(1 - smoothing) * (k == label) + smoothing / 4 for k in range(4)])
    torch.testing.assert_close(rows.sum(1), torch.ones(2))


def test_collator() -> None:
    before = batch(torch.tensor([1, 0, 2]))
    after = OneHot(num_classes=3)(before, RANDOM)
    assert after.label is not None
    assert after.label.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert after.views is before.views
    with pytest.raises(ValueError, match="the batch has no labels"):
        OneHot(num_classes=3)(batch(None), RANDOM)
    with pytest.raises(ValueError, match=r"the labels are rows \(3, 3\) already"):
        OneHot(num_classes=3)(after, RANDOM)
    with pytest.raises(ValueError, match="OneHot cannot be built without num_classes"):
        OneHot()
    with pytest.raises(ValueError, match="rows"):
        classes_of(batch(torch.tensor([0.5, 0.5, 0.0])))


def test_classes_are_inferred_and_labels_are_needed() -> None:
    def facts(_: object) -> Facts:
        return dataclasses.replace(FACTS, output_dims={"classes": (7,)}, train_labelled=True)

    assert resolve(OneHotConf(), facts).config.num_classes == 7
    unlabelled = dataclasses.replace(FACTS, train_labelled=False)
    assert [str(p) for p in problems_of(OneHotConf(), unlabelled)] == [
        "needs labels, and the images to train on have none"
    ]
    unknown = dataclasses.replace(FACTS, train_labelled=None)
    assert not problems_of(OneHotConf(), unknown)

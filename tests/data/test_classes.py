"""Classes of two sets are matched by their names: a label means nothing outside its own set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny import tiny

from ssltyped import config, launch
from ssltyped.config import ConfigError, config_for
from ssltyped.data.classes import Renumbered, matched, mismatch
from ssltyped.data.digits import DigitsConf, DigitSplit
from ssltyped.data.pipeline import Data
from ssltyped.data.splits import EvalSplit, TrainSplit
from ssltyped.transforms.views import RepeatViews
from ssltyped.types import Image, Source, Subset


class Named(Source):
    """Grey images, a class each.

    Args:
        names: of the classes.
        rows: whether a label is a row.
    """

    def __init__(self, *, names: list[str], rows: bool = False) -> None:
        self.names, self.rows = names, rows

    @property
    def classes(self) -> Sequence[str]:
        return self.names

    def __len__(self) -> int:
        return 8

    def read(self, index: int) -> Image:
        return torch.full((3, 16, 16), index, dtype=torch.uint8)

    def name(self, index: int) -> str:
        return str(index)

    def label(self, index: int) -> int | list[int]:
        number = index % max(len(self.names), 2)
        return [int(place == number) for place in range(len(self.names))] if self.rows else number


NamedConf = config_for(Named)


def named(*names: str, rows: bool = False) -> Named:
    return Named(names=list(names), rows=rows)


def test_the_same_name_is_the_same_class() -> None:
    theirs = matched(named("cat", "ant"), named("ant", "bee", "cat"))
    assert [theirs.label(index) for index in range(4)] == [2, 0, 2, 0]
    assert list(theirs.classes) == ["ant", "bee", "cat"]


def test_the_same_classes_are_left_alone() -> None:
    theirs = named("ant", "bee")
    assert matched(theirs, named("ant", "bee")) is theirs
    assert matched(named(), named()).label(1) == 1


def test_a_row_has_the_places_of_the_other_set_and_the_rest_is_unknown() -> None:
    theirs = matched(named("cat", "ant", rows=True), named("ant", "bee", "cat", rows=True))
    assert [theirs.label(index) for index in range(2)] == [[0, -1, 1], [1, -1, 0]]


def test_a_class_that_was_not_trained_on_is_named() -> None:
    reason = mismatch(named("ant", "Bee", "zebra"), named("ant", "bee", "cat"))
    assert reason == "data.val has classes that data.train has not: Bee, zebra; data.train has ant, bee, cat"
    with pytest.raises(ValueError, match="zebra"):
        matched(named("zebra"), named("ant"))


@pytest.mark.parametrize(("theirs", "ours", "unnamed"), [(("ant",), (), "data.train"), ((), ("ant",), "data.val")])
def test_numbers_are_no_names(theirs: tuple[str, ...], ours: tuple[str, ...], unnamed: str) -> None:
    assert f"those of {unnamed} are numbers" in mismatch(named(*theirs), named(*ours))


def test_many_classes_are_not_all_listed() -> None:
    assert mismatch(named("x"), named(*map(str, range(50)))).endswith("0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (50)")


def test_an_evaluation_reads_the_labels_of_the_training() -> None:
    train = TrainSplit(views=RepeatViews(transforms=[]), batch_size=2, source=named("ant", "bee", "cat"))
    data = Data(train=train, val=EvalSplit(transforms=[], source=named("cat", "bee"), num_workers=0))
    (batch,) = data.evaluate(Subset.VAL)
    assert batch.label is not None
    assert batch.label.tolist() == [2, 1] * 4
    (batch,) = data.evaluate(Subset.TRAIN)
    assert batch.label is not None
    assert batch.label.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_run_on_other_classes_is_not_started(tmp_path: Path) -> None:
    """Whoever reads the labels, a callback of the user's too."""
    asked = tiny(output=tmp_path, evaluated=True)
    digits = config.replaced(asked, {"data.val.source": DigitsConf(split=DigitSplit.TEST)})
    with pytest.raises(ConfigError, match=r"^data.val: the classes of data.val have names \(0, 1, 2.* are numbers"):
        launch(digits)
    assert not list(tmp_path.iterdir())
    unlabelled = config.replaced(digits, {"data.train.source.has_labels": False})
    assert launch(unlabelled).metrics["loss"] > 0, "there is nothing to match"


def test_a_renumbered_source_is_the_source_but_for_its_labels() -> None:
    one = Renumbered(source=named("ant"), numbers=[1], classes=("bee", "ant"))
    assert (len(one), one.name(3), int(one.read(3).max())) == (8, "3", 3)

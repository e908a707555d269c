"""What is known of images before a run starts."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from tiny import Patches, PatchesConf, tiny

from ssltyped import config
from ssltyped.config import ConfigError, config_for
from ssltyped.data.digits import DigitsConf
from ssltyped.data.image_list import ImageListConf
from ssltyped.data.known import Sources
from ssltyped.data.label_count import LabelCount
from ssltyped.data.pipeline import Data


def data(**fields: object) -> Data:
    return config.replaced(tiny(evaluated=True), {f"data.{path}": value for path, value in fields.items()}).data


def test_images_that_are_not_here_have_the_declared_length_and_unknown_labels(tmp_path: Path) -> None:
    one = config.replaced(
        tiny(), {"data.train.source": ImageListConf(path=tmp_path / "no.txt"), "data.train.num_images": 7}
    )
    assert Sources().of(one.data.train, "data.train") == (7, None, "", LabelCount(), None)
    undeclared = config.replaced(one, {"data.train.num_images": None})
    with pytest.raises(ConfigError, match=r"data.train.source: .*no.txt does not exist"):
        Sources().of(undeclared.data.train, "data.train")


def test_labels_of_images_that_are_not_here_are_not_compared(tmp_path: Path) -> None:
    named = config.replaced(tiny(evaluated=True), {"data.val.source": DigitsConf()})
    assert "are numbers" in Sources().unmatched(named.data)
    absent = {"data.train.source": ImageListConf(path=tmp_path / "no.txt"), "data.train.num_images": 7}
    assert Sources().unmatched(config.replaced(named, absent).data) == ""
    unlabelled = {"data.train.source": PatchesConf(has_labels=False)}
    assert Sources().unmatched(config.replaced(named, unlabelled).data) == ""


def test_a_run_needs_the_images_and_a_plan_only_the_right_number() -> None:
    wrong = config.replaced(tiny(evaluated=True), {"data.val.num_images": 9})
    (problem,) = Sources().problems(wrong.data, to_run=False)
    assert problem.path == "data.val.num_images"
    assert "declared 9, but there are" in problem.message


class SomeHaveNone(Patches):
    """Image 3 has no label."""

    def label(self, index: int) -> int:
        return cast(int, None) if index == 3 else super().label(index)


SomeHaveNoneConf = config_for(SomeHaveNone)


@pytest.mark.parametrize("to_run", [False, True])
def test_what_is_no_label_is_told_before_a_run(to_run: bool) -> None:
    wrong = config.replaced(tiny(evaluated=True), {"data.train.source": SomeHaveNoneConf()})
    (problem,) = Sources().problems(wrong.data, to_run=to_run)
    assert problem.path == "data.train.source"
    assert problem.message.startswith("SomeHaveNone, image 3 (patches/3.png), gave the label None: a label is")


class SameNames(Patches):
    """Four classes, two of the same name."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("a", "b", "a", "c")


def test_classes_of_the_same_name_are_told_before_a_run() -> None:
    wrong = config.replaced(tiny(), {"data.train.source": config_for(SameNames)()})
    with pytest.raises(ConfigError, match=r"data\.train\.source: SameNames has classes of the same name: a$"):
        Sources().of(wrong.data.train, "data.train")


def test_what_another_process_has_found_is_taken_over() -> None:
    """It goes there as text; nothing is asked again."""
    one = tiny(evaluated=True).data
    first = Sources()
    assert first.of(one.train, "data.train").labels == LabelCount(4)
    second = Sources()
    second.take(first.findings().replace('"classes": 4', '"classes": 7'))
    assert second.of(one.train, "data.train").labels == LabelCount(7)

"""The images of a measure, from paths or sources (tests/tasks has them in use)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from facts import FACTS
from images import write_plain
from tiny import PatchesConf

from ssltyped.config import build, replaced
from ssltyped.data.concat import ConcatSourceConf
from ssltyped.data.measured import ImageSet, ImageSetConf, TrainTestSet, TrainTestSetConf, detected
from ssltyped.data.sources import FlatFolderConf
from ssltyped.transforms.geometry import CenterCropConf


def test_one_path_or_several(tmp_path: Path) -> None:
    one, two = write_plain(tmp_path / "one", 2), write_plain(tmp_path / "two", 3)
    assert detected(one)[0] == FlatFolderConf(path=one)
    both = ConcatSourceConf(sources=[FlatFolderConf(path=one), FlatFolderConf(path=two)])
    (inferred,) = ImageSet.infer(ImageSetConf(path=[one, two]), FACTS)
    assert (inferred.field, inferred.value) == ("source", both)
    assert not list(ImageSet.infer(ImageSetConf(path=[one, tmp_path / "no"]), FACTS))
    (problem,) = ImageSet.problems(ImageSetConf(path=[one, tmp_path / "no"], mean=(0.5,) * 3, std=(0.5,) * 3), FACTS)
    assert str(problem).startswith(f"path: {tmp_path}/no does not exist")


def test_what_is_needed() -> None:
    facts = dataclasses.replace(FACTS, labelled=False, unlabelled="Patches gives no labels", unmatched="dog is unknown")
    asked = TrainTestSetConf(mean=(0.5,) * 3, std=(0.5, 0.5, -1))
    assert [str(problem) for problem in TrainTestSet.problems(asked, facts)] == [
        "path: give the path of the images, or a source",
        "std: is (0.5, 0.5, -1); it must be above 0",
        "source: needs labels, and there are none (Patches gives no labels): give labelled images",
        "test_source: dog is unknown",
    ]


def test_images_to_test_on() -> None:
    asked = TrainTestSetConf(
        source=PatchesConf(count=9), transforms=[CenterCropConf(size=4)], mean=(0.5,) * 3, std=(0.5,) * 3
    )
    assert len(build(asked).images()) == 9
    assert build(asked).test_images() is None
    other = build(replaced(asked, {"test_source": PatchesConf(count=5)})).test_images()
    assert other is not None
    assert len(other) == 5

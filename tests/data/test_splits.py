import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import FACTS
from images import write_plain

from ssltyped import config
from ssltyped.data.digits import Digits, DigitsConf
from ssltyped.data.sources import FlatFolder, FlatFolderConf
from ssltyped.data.splits import EvalSplit, EvalSplitConf, TrainSplit, TrainSplitConf
from ssltyped.transforms.geometry import CenterCropConf, RandomResizedCrop, RandomResizedCropConf
from ssltyped.transforms.views import RepeatViews, RepeatViewsConf
from ssltyped.types import Batch, Collator, Random, Source, ViewMaker

VIEWS: ViewMaker = RepeatViewsConf(transforms=[RandomResizedCropConf(size=8)])


def split(path: Path | None = None, source: Source | None = None, num_images: int | None = None) -> TrainSplit:
    return TrainSplitConf(views=VIEWS, batch_size=2, path=path, source=source, num_images=num_images)


def test_the_source_follows_from_the_path(tmp_path: Path) -> None:
    (inference,) = TrainSplit.infer(split(write_plain(tmp_path, 3)), FACTS)
    assert inference.field == "source"
    assert inference.value == FlatFolderConf(path=tmp_path)
    assert inference.rule == f"{tmp_path}: images lie in it directly, so its folders are no classes"
    again = split(tmp_path, FlatFolderConf(path=tmp_path))
    assert next(iter(TrainSplit.infer(again, FACTS))).value == again.source
    assert not list(TrainSplit.infer(split(source=DigitsConf()), FACTS))


def test_eval_splits_infer_alike(tmp_path: Path) -> None:
    asked = EvalSplitConf(transforms=[CenterCropConf(size=8)], path=write_plain(tmp_path, 3))
    assert [i.value for i in EvalSplit.infer(asked, FACTS)] == [FlatFolderConf(path=tmp_path)]


def test_problems(tmp_path: Path) -> None:
    def problems(asked: TrainSplit) -> list[str]:
        assert not list(TrainSplit.infer(asked, FACTS))
        return [str(problem) for problem in TrainSplit.problems(asked, FACTS)]

    assert problems(split()) == ["path: give the path of the images, or a source"]
    missing = "does not exist (one with blanks or other signs needs quotes)"
    assert problems(split(tmp_path / "none")) == [f"path: {tmp_path}/none {missing}"]
    assert problems(split(tmp_path / "none", num_images=10)) == []
    assert "holds no image" in problems(split(tmp_path, num_images=10))[0]
    assert problems(split(source=DigitsConf())) == []


def test_images(tmp_path: Path) -> None:
    assert isinstance(config.build(split(source=DigitsConf())).images(), Digits)
    with pytest.raises(ValueError, match="none does not exist"):
        config.build(split(tmp_path / "none")).images()
    with pytest.raises(ValueError, match="give path or source"):
        config.build(split()).images()
    source = FlatFolder(path=write_plain(tmp_path, 3))
    built = TrainSplit(views=config.build(VIEWS), batch_size=2, source=source, num_images=4)
    with pytest.raises(ValueError, match="num_images is 4, but there are 3 images"):
        built.images()
    assert TrainSplit(views=config.build(VIEWS), batch_size=2, source=source, num_images=3).images() is source


class Halves(Collator):
    """Half of the labels."""

    def __call__(self, batch: Batch, random: Random) -> Batch:
        return dataclasses.replace(batch, label=None if batch.label is None else batch.label[::2])


def test_a_collator_that_gives_no_batch_is_named() -> None:
    views = RepeatViews(transforms=[RandomResizedCrop(size=8)])
    train = TrainSplit(views=views, batch_size=2, source=Digits(), collators=[Halves()])
    batch = Batch(views=(torch.zeros(4, 3, 8, 8),), index=torch.arange(4))
    assert train.collated(batch, np.random.default_rng(0)).views == batch.views
    with pytest.raises(ValueError, match=r"Halves gave a torch\.int64 tensor \[2\] as label; B is 4"):
        train.collated(dataclasses.replace(batch, label=torch.arange(4)), np.random.default_rng(0))

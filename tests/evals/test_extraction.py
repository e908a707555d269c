"""Each image once, the same bytes on any number of ranks and after a kill, and what the trunk makes of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_on_ranks
from tiny import SIZE, Patches

from ssltyped import build
from ssltyped.data.reading import DataError
from ssltyped.evals import extraction
from ssltyped.evals.extraction import Extractor, Pooling, extract, known_names
from ssltyped.evals.features import Features
from ssltyped.heads.mlp import MLPHead
from ssltyped.transforms.geometry import CenterCrop
from ssltyped.trunks.resnet import ResNetConf, Stem
from ssltyped.types import Trunk

NAMES = ("res3", "flatten", "heads.projector")


def trunk() -> Trunk:
    torch.manual_seed(0)
    return build(ResNetConf(depth=18, width_multiplier=0.0625, stem=Stem.SMALL)).eval()


def heads() -> Mapping[str, MLPHead]:
    torch.manual_seed(1)
    return {"projector": MLPHead(dims=[8, 5], in_dim=32)}


def extracted(folder: Path, source: Patches, pooling: Pooling = Pooling.MEAN) -> Features:
    return extract(
        trunk(),
        source,
        folder,
        transforms=[CenterCrop(size=SIZE)],
        features=NAMES,
        heads=heads(),
        pooling=pooling,
        batch_size=3,
        shard_size=4,
        made_from={"weights": "seed 0"},
    )


def hashes(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("pooling", list(Pooling))
def test_rows_are_what_the_trunk_makes_of_each_image(pooling: Pooling, tmp_path: Path) -> None:
    source = Patches(count=11, broken=[2, 10])
    broken: list[int] = []
    features = extract(
        trunk(),
        source,
        tmp_path,
        transforms=[CenterCrop(size=SIZE)],
        features=NAMES,
        heads=heads(),
        pooling=pooling,
        batch_size=3,
        shard_size=4,
        on_unreadable=lambda records: broken.extend(record.index for record in records),
    )
    index = [i for i in range(11) if i not in (2, 10)]
    assert features.index[:].tolist() == index
    assert broken == [2, 10]
    assert features.label[:].tolist() == [i % 4 for i in index]
    assert features.path[:].tolist() == [f"patches/{i}.png" for i in index]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        for row, i in enumerate(index):
            pixels = source.read(i)[:, 2:18, 2:18].float() / 255
            maps, flat = trunk()(((pixels - mean[:, None, None]) / std[:, None, None])[None], ["res3", "flatten"])
            pooled = maps.mean(dim=(2, 3)) if pooling is Pooling.MEAN else maps.flatten(1)
            projected = heads()["projector"].eval()(flat.flatten(1))
            assert isinstance(projected, torch.Tensor)
            for name, want in (("res3", pooled), ("flatten", flat.flatten(1)), ("heads.projector", projected)):
                np.testing.assert_allclose(features[name][row], want[0].numpy(), rtol=1e-4, atol=1e-5)


def on_rank(folder: Path, count: int) -> dict[str, str]:
    extracted(folder, Patches(count=count, broken=[5]))
    return hashes(folder)


@pytest.mark.parametrize("count", [6, 19])
def test_ranks_write_the_same_bytes_as_one_process(count: int, tmp_path: Path) -> None:
    """Also where a rank has no shard, and for numbers of images that nothing divides."""
    one = on_rank(tmp_path / "one", count)
    for world in (2, 3):
        assert run_on_ranks(on_rank, world, tmp_path / str(world), count) == [one] * world
    assert Features(tmp_path / "3").index[:].tolist() == [i for i in range(count) if i != 5]


class Killed(Patches):
    """Ends the process at an image, as a kill does."""

    def read(self, index: int) -> torch.Tensor:
        if index == 9:
            os._exit(9)
        return super().read(index)


def test_killed_and_started_again_it_writes_the_same_files(tmp_path: Path) -> None:
    whole = extracted(tmp_path / "whole", Patches(count=14))
    folder = tmp_path / "killed"
    pid = os.fork()
    if pid == 0:
        extracted(folder, Killed(count=14))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert sorted(file.name for file in folder.glob("shard_*")) == ["shard_00000", "shard_00001"]
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.npy")}
    (folder / "shard_00002.part").mkdir()
    (folder / "shard_00002.part" / "flatten.npy").write_bytes(b"half")
    read: list[int] = []

    class Counted(Patches):
        def read(self, index: int) -> torch.Tensor:
            read.append(index)
            return super().read(index)

    extracted(folder, Counted(count=14))
    assert read == list(range(8, 14)), "what is done is not computed again"
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())
    assert hashes(folder) == hashes(whole.folder)


def test_another_extraction_does_not_go_on_there(tmp_path: Path) -> None:
    extracted(tmp_path, Patches(count=6))
    with pytest.raises(ValueError, match=r"features was .* is now"):
        extracted(tmp_path, Patches(count=6), pooling=Pooling.FLATTEN)
    with pytest.raises(ValueError, match="num_images was 6, is now 7"):
        extracted(tmp_path, Patches(count=7))


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no feature 'res33'; did you mean 'res3'"):
        Extractor(trunk(), {}, ["res33"], Pooling.MEAN)
    with pytest.raises(ValueError, match=r"there is no feature 'heads.projector'"):
        Extractor(trunk(), {}, ["heads.projector"], Pooling.MEAN)
    with pytest.raises(ValueError, match="end with a crop"):
        extract(trunk(), Patches(), tmp_path, transforms=[])
    with pytest.raises(DataError, match="none of the 2 images can be read"):
        extracted(tmp_path / "none", Patches(count=2, broken=[0, 1]))


def test_names_of_outputs() -> None:
    names = known_names({"res5": 8}, {"one": 1, "two": 2})
    assert names == {"res5": ("", 0), "heads.one": ("one", 0), "heads.two.0": ("two", 0), "heads.two.1": ("two", 1)}


def test_tokens_are_averaged_over_their_places() -> None:
    tokens = torch.arange(12.0).reshape(1, 3, 4)
    assert Pooling.MEAN(tokens).tolist() == [[4.0, 5.0, 6.0, 7.0]]
    assert extraction.Pooling.FLATTEN(tokens).shape == (1, 12)

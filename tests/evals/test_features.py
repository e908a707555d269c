"""Shards on disk as one array; what is half-written, lacking, or of something else is not taken."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ssltyped.evals.features import ChosenRows, Features, Manifest, ShardedArray, shard_folder, write_shard

MANIFEST = Manifest({"flatten": 3}, num_images=10, shard_size=4, classes=("a", "b"), made_from={"weights": "abc"})
ROWS = np.arange(27, dtype=np.float32).reshape(9, 3)
INDEX = np.array([0, 1, 2, 3, 4, 6, 7, 8, 9])
"""Image 5 cannot be read."""


def filled(folder: Path, shards: tuple[int, ...] = (0, 1, 2)) -> Path:
    MANIFEST.begin(folder)
    for shard in shards:
        mine = np.isin(INDEX, MANIFEST.images_of(shard))
        names = np.array([f"image{index}" for index in INDEX[mine]])
        arrays = {"flatten": ROWS[mine], "index": INDEX[mine], "label": INDEX[mine] % 2, "path": names}
        write_shard(folder, shard, arrays)
    return folder


def test_shards_are_one_array(tmp_path: Path) -> None:
    features = Features(filled(tmp_path))
    array = features["flatten"]
    assert (features.names, features.classes, len(features)) == (("flatten",), ("a", "b"), 9)
    assert (array.shape, len(array)) == ((9, 3), 9)
    assert array.dtype == np.dtype(np.float32)
    assert np.array_equal(np.asarray(array), ROWS)
    for part in (
        slice(None),
        slice(1, 3),
        slice(3, 8),
        slice(5, 5),
        slice(8, 2),
        slice(None, None, 3),
        slice(-3, None),
    ):
        assert np.array_equal(array[part], ROWS[part]), part
    for places in (np.array([8, 0, 0, 4]), np.zeros(0, dtype=np.int64)):
        assert np.array_equal(array[places], ROWS[places])
    assert [array[place].tolist() for place in (0, 5, -1)] == [ROWS[place].tolist() for place in (0, 5, -1)]
    with pytest.raises(IndexError):
        array[9]
    assert np.array_equal(np.asarray(features.index), INDEX)
    assert features.path[4] == "image4"
    assert np.array_equal(features.label[:], INDEX % 2)


def test_a_slice_within_a_shard_is_no_copy(tmp_path: Path) -> None:
    array = Features(filled(tmp_path))["flatten"]
    assert isinstance(array, ShardedArray)
    assert np.shares_memory(array[0:2], array[1:4])
    assert isinstance(array[0:2], np.memmap)


def test_chosen_rows_are_tensors(tmp_path: Path) -> None:
    chosen = ChosenRows(Features(filled(tmp_path))["flatten"], np.array([7, 1, 4]))
    assert len(chosen) == 3
    assert np.array_equal(chosen[0:2].numpy(), ROWS[[7, 1]])
    assert np.array_equal(chosen[np.array([2, 0])].numpy(), ROWS[[4, 7]])


def test_what_is_half_written_is_not_taken(tmp_path: Path) -> None:
    filled(tmp_path, shards=(0, 2))
    partial = shard_folder(tmp_path, 1).with_name("shard_00001.part")
    partial.mkdir()
    (partial / "flatten.npy").write_bytes(b"half")
    with pytest.raises(ValueError, match="has 2 of 3 whole shards of its features: the same command again"):
        Features(tmp_path)
    filled(tmp_path, shards=(1,))
    assert not partial.exists()
    assert np.array_equal(Features(tmp_path)["flatten"][:], ROWS)


@pytest.mark.parametrize("name", ["flatten", "index", "label", "path"])
def test_a_shard_that_was_cut_is_none(name: str, tmp_path: Path) -> None:
    filled(tmp_path)
    file = shard_folder(tmp_path, 1) / f"{name}.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match="has 2 of 3 whole shards of its features"):
        Features(tmp_path)
    filled(tmp_path, shards=(1,))
    assert np.array_equal(Features(tmp_path)["flatten"][:], ROWS)


def test_a_folder_goes_on_only_as_what_it_was(tmp_path: Path) -> None:
    MANIFEST.begin(tmp_path)
    MANIFEST.begin(tmp_path)
    assert Manifest.read(tmp_path) == MANIFEST
    for other, message in [
        (dataclasses.replace(MANIFEST, made_from={"weights": "xyz"}), r"weights was 'abc', is now 'xyz'"),
        (dataclasses.replace(MANIFEST, num_images=11), "num_images was 10, is now 11"),
    ]:
        with pytest.raises(ValueError, match=message):
            other.begin(tmp_path)


def test_no_features(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no features: give the folder with their manifest"):
        Features(tmp_path)
    with pytest.raises(ValueError, match="nowhere does not exist"):
        Features(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no feature 'flaten'; did you mean 'flatten'"):
        Features(filled(tmp_path))["flaten"]

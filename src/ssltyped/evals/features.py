"""Features on disk: shards of memory-mapped arrays, opened as one array each.

features/manifest.json                      what they were made from, and the names of the classes
features/shard_00000/flatten.npy ...        one a feature: a row an image, float32
features/shard_00000/index.npy label.npy path.npy     which image each row is: number, class (-1: none), name

Shard s has the readable ones of the images s S to (s + 1) S - 1 of the source, whatever the number of ranks.
"""

import dataclasses
import functools
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional, Self

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from ssltyped.config.hints import nearest, shown
from ssltyped.model.files import sync, write_text

MANIFEST = "manifest.json"
BESIDE = ("index", "label", "path")
"""The arrays beside those of the features."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What features are, and what they were made from: that of two extractions is the same if their rows are.

    Args:
        features: the width of each.
        num_images: N, of the source; those that cannot be read have no row.
        shard_size: S, images a shard.
        classes: names of the classes by their labels; empty: they are numbers.
        made_from: what else the rows depend on, in words: weights, images, transforms.
    """

    features: Mapping[str, int]
    num_images: int
    shard_size: int
    classes: tuple[str, ...] = ()
    made_from: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def num_shards(self) -> int:
        return -(-self.num_images // self.shard_size)

    def images_of(self, shard: int) -> range:
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.num_images))

    def begin(self, folder: Path) -> None:
        """Write it into a folder, or go on there. Raises ValueError if the folder has features of something else."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / MANIFEST
        if not file.exists():
            write_text(file, json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        elif (there := self.read(folder)) != self:
            old, new = ({**dataclasses.asdict(one), **one.made_from} for one in (there, self))
            changed = next(key for key in new if key != "made_from" and old.get(key) != new[key])
            what = f"{changed} was {shown(old.get(changed))}, is now {shown(new[changed])}"
            raise ValueError(f"{folder} has features of something else ({what}): write them to a new folder")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """That of a folder. Raises ValueError if it has none."""
        try:
            content = json.loads((folder / MANIFEST).read_text())
            return cls(**{**content, "classes": tuple(content["classes"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            message = "holds no features" if folder.is_dir() else "does not exist"
            raise ValueError(f"{folder} {message}: give the folder with their {MANIFEST}") from error


def shard_folder(folder: Path, shard: int) -> Path:
    return folder / f"shard_{shard:05}"


def is_whole(folder: Path, shard: int, features: Iterable[str]) -> bool:
    """Whether a shard is there with all its arrays, each of the same number of rows and as long as its header says."""
    try:
        files = [shard_folder(folder, shard) / f"{name}.npy" for name in (*features, *BESIDE)]
        return len({len(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files}) == 1
    except (OSError, ValueError):
        return False


def write_shard(folder: Path, shard: int, arrays: Mapping[str, Shaped[np.ndarray, "n ..."]]) -> None:
    """Write a shard whole or not at all: its folder has its name when all in it is on disk."""
    place = shard_folder(folder, shard)
    partial = place.with_name(place.name + ".part")
    for left in (partial, place):  # of one that was killed; one that is damaged
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    for name, array in arrays.items():
        np.save(partial / f"{name}.npy", array, allow_pickle=False)
        sync(partial / f"{name}.npy")
    sync(partial)
    partial.replace(place)
    sync(folder)


class ShardedArray:
    """Several arrays as one along their first axis. A row is copied when it is asked for, and not before.

    Args:
        files: the arrays, `.npy`, in order.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        # Copy on write: torch takes only what could be written to.
        self._parts = [np.load(file, mmap_mode="c", allow_pickle=False) for file in files]
        self._starts = np.cumsum([0, *map(len, self._parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*{part.dtype for part in self._parts})

    def __getitem__(self, places: int | slice | Int64[np.ndarray, "n"]) -> Shaped[np.ndarray, "..."]:
        """A row, or the rows at these places; those of a slice within a shard are not copied."""
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            if step == 1:
                return self._between(start, max(start, stop))
            places = np.arange(start, stop, step)
        if isinstance(places, int):
            places = range(len(self))[places]  # also from the end; raises IndexError
            shard = self._shard(places)
            row: Shaped[np.ndarray, "..."] = self._parts[shard][places - self._starts[shard]]
            return row
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        shards = self._shard(places)
        for shard in np.unique(shards):
            chosen = shards == shard
            found[chosen] = self._parts[shard][places[chosen] - self._starts[shard]]
        return found

    def _shard(self, places: int | Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "..."]:
        return np.searchsorted(self._starts, places, side="right") - 1

    def _between(self, start: int, stop: int) -> Shaped[np.ndarray, "..."]:
        pairs = zip(self._parts, self._starts, strict=False)
        cuts = [part[max(start - first, 0) : max(stop - first, 0)] for part, first in pairs]
        there = [cut for cut in cuts if len(cut)]
        return there[0] if len(there) == 1 else np.concatenate(there or cuts[:1])

    def __array__(self, dtype: Optional[np.dtype] = None, copy: Optional[bool] = None) -> Shaped[np.ndarray, "N ..."]:
        """All rows, in memory."""
        return np.asarray(self[:], dtype=dtype)


class Features:
    """What `extract` has written, read in place.

        features = Features(Path("runs/extract_features"))
        features["flatten"][:100]                a numpy array of the first 100 rows
        features.label, features.index, features.path

    Raises ValueError for a folder that has none, or not all of them yet.

    Args:
        folder: that of the manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, Manifest.read(folder)
        there = [is_whole(folder, shard, self.manifest.features) for shard in range(self.manifest.num_shards)]
        if not all(there):
            message = f"has {sum(there)} of {len(there)} whole shards of its features"
            raise ValueError(f"{folder} {message}: the same command again makes the others")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.manifest.features)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, name: str) -> ShardedArray:
        """A feature, N x D. Raises ValueError, with the nearest name, for one that is not there."""
        if name not in self.names:
            raise ValueError(f"{self.folder} has no feature {name!r}{nearest(name, self.names)}")
        return self._array(name)

    @functools.cached_property
    def index(self) -> ShardedArray:
        """The number of each row's image in the source."""
        return self._array("index")

    @functools.cached_property
    def label(self) -> ShardedArray:
        """The class of each row's image, -1 for one without."""
        return self._array("label")

    @functools.cached_property
    def path(self) -> ShardedArray:
        """The name of each row's image."""
        return self._array("path")

    def _array(self, name: str) -> ShardedArray:
        shards = range(self.manifest.num_shards)
        return ShardedArray([shard_folder(self.folder, shard) / f"{name}.npy" for shard in shards])


class ChosenRows:
    """Rows of an array as tensors, a part at a time (`neighbours.Rows`).

    Args:
        array: all rows.
        places: which of them, in this order.
    """

    def __init__(self, array: ShardedArray, places: Int64[np.ndarray, "n"]) -> None:
        self._array, self._places = array, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, part: slice | Int64[np.ndarray, "m"], /) -> Tensor:
        return torch.from_numpy(self._array[self._places[part]])

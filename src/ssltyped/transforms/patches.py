"""Pretext tasks from parts of an image: patches, in their order or a permuted one."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Optional, Self

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Int64, UInt8
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.transforms.views import applied, last_size
from ssltyped.types import Facts, Image, Problem, Random, Transform, ViewMaker, Views

MAX_LENGTH = 9


class PatchViews(ViewMaker):
    """The patches of a square image as views, in a permuted order whose number is the label (jigsaw).

    With side s = sqrt(num_patches) and cells of c = floor(size / s) pixels, a patch of c - jitter pixels lies at a
    random place of each cell; patches are listed column by column. With `num_permutations` they are put in the order
    of one of a fixed set of permutations of maximal Hamming distance (`hamming_permutations`), or of those in
    `permutations_file`, drawn uniformly: its number is the label. Without, they keep their order and there is no label.
    Noroozi and Favaro 2016, arXiv 1603.09246, section 3: 9 patches of 64 out of cells of 85 pixels, and 1000
    permutations. The chain before the patches and the order draw from `random(0)`, then the transforms of patch 0 (by
    its place in the image); those of patch i from `random(i)`. Raises ValueError for a file that holds anything else.

    Args:
        transforms: image to a square one, by the same chain as in RepeatViews
        patch_transforms: what is done to each patch
        num_patches: T, a square number
        jitter: pixels that a patch may move in its cell
        num_permutations: size of the set; null: patches keep their order
        permutations_file: an .npy file of permutations (N, T), from 0 or from 1; in place of num_permutations
        shuffle: permute the patches in any order, without a label (PIRL)
    """

    def __init__(
        self,
        *,
        transforms: list[Transform],
        patch_transforms: list[Transform] = [],  # noqa: B006  # never changed
        num_patches: Annotated[int, Gt(0)] = 9,
        jitter: Annotated[int, Ge(0)] = 21,
        num_permutations: Optional[Annotated[int, Gt(0)]] = None,
        permutations_file: Optional[Path] = None,
        shuffle: bool = False,
    ) -> None:
        self.transforms, self.patch_transforms = transforms, patch_transforms
        self.num_patches, self.jitter, self.shuffle = num_patches, jitter, shuffle
        self.num_permutations, self.permutations_file = num_permutations, permutations_file

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        side, size = math.isqrt(config.num_patches), last_size(config.transforms)
        if side**2 != config.num_patches:
            yield Problem("num_patches", f"got {config.num_patches}, which is no square number")
        elif not size:
            yield Problem(
                "transforms", "no transform gives the image a size; add one with a `size`, such as CenterCrop"
            )
        elif size // side <= config.jitter:
            yield Problem("jitter", f"got {config.jitter}, and a cell has only {size // side} pixels")
        given = [config.num_permutations is not None, config.permutations_file is not None, config.shuffle]
        if sum(given) > 1:
            yield Problem("num_permutations", "give one of num_permutations, permutations_file and shuffle")
        count, most = config.num_permutations, math.factorial(config.num_patches)
        if count is not None and count > most:
            yield Problem("num_permutations", f"got {count}; {config.num_patches} patches have {most}")
        if count is not None and config.num_patches > MAX_LENGTH:
            message = f"permutations of at most {MAX_LENGTH} patches can be searched; give a permutations_file"
            yield Problem("num_permutations", message)
        if config.permutations_file is not None:
            try:
                read_permutations(config.permutations_file, config.num_patches)
            except (OSError, ValueError) as error:
                yield Problem("permutations_file", str(error))

    @property
    def crop_sizes(self) -> Sequence[int]:
        cell = last_size(self.transforms) // math.isqrt(self.num_patches)
        return (last_size(self.patch_transforms) or cell - self.jitter,) * self.num_patches

    @property
    def num_classes(self) -> Optional[int]:
        if self.permutations_file is None:
            return self.num_permutations
        try:
            return len(read_permutations(self.permutations_file, self.num_patches))
        except (OSError, ValueError):  # problems() says what is wrong
            return None

    def prepare(self) -> None:
        self.permutations()

    def permutations(self) -> Optional[Int64[np.ndarray, "N T"]]:
        """The set, from 0."""
        if self.permutations_file is not None:
            return read_permutations(self.permutations_file, self.num_patches)
        return None if self.num_permutations is None else hamming_permutations(self.num_permutations, self.num_patches)

    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views:
        stream = random(0)
        square = applied(self.transforms, image, stream)
        side = math.isqrt(self.num_patches)
        offsets = stream.integers(self.jitter, size=(2, side, side)) if self.jitter else np.zeros((2, side, side), int)
        order, label = self._order(stream)
        patches = [
            applied(self.patch_transforms, patch, random(number) if number else stream)
            for number, patch in enumerate(cut_patches(square, offsets, self.jitter))
        ]
        return Views([patches[i] for i in order], label=label)

    def _order(self, random: Random) -> tuple[Sequence[int], Optional[int]]:
        """The order of the patches, and its number if it is a label."""
        if self.shuffle:
            return random.permutation(self.num_patches).tolist(), None
        known = self.permutations()
        if known is None:
            return range(self.num_patches), None
        label = int(random.integers(len(known)))
        return known[label].tolist(), label


@functools.cache
def hamming_permutations(count: int, length: int) -> Int64[np.ndarray, "N T"]:
    """`count` of the permutations of 0 .. length - 1, chosen one after the other for the largest Hamming distance.

    Starts from the identity; the next one has the largest smallest distance to all before it, ties going to the
    largest mean distance, then to the first in lexicographic order, so that the set is always the same. Noroozi and
    Favaro 2016 (arXiv 1603.09246), algorithm 1, which draws the first at random. 1000 of length 9 take a few seconds.

    Raises:
        ValueError: more permutations than there are, or a length above 9.
    """
    if not 1 <= length <= MAX_LENGTH:
        raise ValueError(f"permutations of 1 to {MAX_LENGTH} patches can be searched, not of {length}")
    every = np.array(list(itertools.permutations(range(length))), dtype=np.uint8)
    if count > len(every):
        raise ValueError(f"there are {len(every)} permutations of {length} patches, not {count}")
    chosen = [0]
    columns = np.ascontiguousarray(every.T)
    smallest, total = np.full(len(every), length, dtype=np.int64), np.zeros(len(every), dtype=np.int64)
    while len(chosen) < count:
        distance = np.zeros(len(every), dtype=np.uint8)
        for column, value in zip(columns, every[chosen[-1]], strict=True):
            distance += column != value
        smallest, total = np.minimum(smallest, distance), total + distance
        chosen.append(int(np.argmax(smallest * (length * count + 1) + total)))
    return every[chosen].astype(np.int64)


@functools.cache
def read_permutations(path: Path, length: int) -> Int64[np.ndarray, "N T"]:
    """The permutations of 0 .. length - 1 that an .npy file holds, counted from 0 or from 1.

    Raises ValueError for an array of another shape, or with a row that is no permutation; OSError without the file.
    """
    found = np.load(path)
    if found.ndim != 2 or found.shape[1] != length or not len(found):
        raise ValueError(f"{path} has the shape {found.shape}; permutations of {length} patches are (N, {length})")
    from_zero: Int64[np.ndarray, "N T"] = found.astype(np.int64) - int(found.min())
    if wrong := np.flatnonzero((np.sort(from_zero, axis=1) != np.arange(length)).any(axis=1)).tolist():
        raise ValueError(f"{path}: row {wrong[0]} is no permutation of {length} patches")
    return from_zero


def cut_patches(
    image: UInt8[Tensor, "C H W"], offsets: Int64[np.ndarray, "2 s s"], jitter: int
) -> list[UInt8[Tensor, "C p p"]]:
    """The patches of an image, column by column; `offsets[:, i, j]` moves that of column i and row j right and down."""
    side, cell = offsets.shape[1], image.shape[1] // offsets.shape[1]
    size = cell - jitter
    patches = []
    for i, j in itertools.product(range(side), repeat=2):
        left, top = i * cell + int(offsets[0, i, j]), j * cell + int(offsets[1, i, j])
        patches.append(image[:, top : top + size, left : left + size])
    return patches


PatchViewsConf = config_for(PatchViews)

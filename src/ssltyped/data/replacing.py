"""What takes the place of images that cannot be read, where there are few others."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import numpy as np

from ssltyped.data.sampler import Sampler
from ssltyped.types import Source, UnreadableImageError

BLOCK = 4096
"""Places of an epoch whose images are computed at once."""


class Spare(NamedTuple):
    """An image, and whether it is in the batch at another place too."""

    image: int
    repeated: bool


class Spares:
    """For the places of a global batch whose own replacements (`Sampler.replacements`) are all broken: other images.

    They come from what no place of the batch takes, such as the rest of the epoch that is not trained on; the k-th
    such place gets the k-th of them. When there are not enough, images of the batch are taken again, each once. A pure
    function of the epoch and the place: every rank finds the same, by reading the whole global batch, each image once.
    """

    def __init__(self, source: Source, sampler: Sampler) -> None:
        self._source, self._sampler = source, sampler
        self._readable: dict[int, bool] = {}
        self._found: tuple[int, int, dict[int, Spare]] = (-1, -1, {})

    def of(self, epoch: int, position: int) -> Optional[Spare]:
        """What takes the place of this position; None if nothing is left, not even to repeat."""
        first = position - position % self._sampler.global_batch_size
        if self._found[:2] != (epoch, first):
            self._found = (epoch, first, self._assigned(epoch, first))
        return self._found[2].get(position)

    def _assigned(self, epoch: int, first: int) -> dict[int, Spare]:
        taken: dict[int, int] = {}
        for position in range(first, first + self._sampler.global_batch_size):
            ways = [position, *self._sampler.replacements(position)]
            image = next(filter(self._can_be_read, self._images(epoch, ways)), None)
            if image is not None:
                taken[position] = image
        needy = [p for p in range(first, first + self._sampler.global_batch_size) if p not in taken]
        used = set(taken.values())
        others = (image for image in self._every(epoch) if image not in used and self._can_be_read(image))
        spares = [Spare(image, repeated=False) for image in itertools.islice(others, len(needy))]
        repeats = [Spare(image, repeated=True) for image in taken.values()]
        return dict(zip(needy, spares + repeats, strict=False))

    def _every(self, epoch: int) -> Iterator[int]:
        """All images, in the order of the epoch."""
        for start in range(0, self._sampler.num_images, BLOCK):
            yield from self._images(epoch, range(start, min(start + BLOCK, self._sampler.num_images)))

    def _images(self, epoch: int, positions: Sequence[int]) -> list[int]:
        found: list[int] = self._sampler.images(epoch, np.array(positions)).tolist()
        return found

    def _can_be_read(self, index: int) -> bool:
        if index not in self._readable:
            try:
                self._source.read(index)
                self._readable[index] = True
            except UnreadableImageError:
                self._readable[index] = False
        return self._readable[index]

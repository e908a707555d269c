import numpy as np
import torch

from ssltyped.data.replacing import Spares
from ssltyped.data.sampler import Sampler
from ssltyped.types import Image, Source, UnreadableImageError


class Counted(Source):
    """Black pixels; how often each image is read."""

    def __init__(self, *, count: int, broken: frozenset[int]) -> None:
        self.count, self.broken = count, broken
        self.reads = [0] * count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Image:
        self.reads[index] += 1
        if index in self.broken:
            raise UnreadableImageError("broken")
        return torch.zeros(3, 1, 1, dtype=torch.uint8)

    def name(self, index: int) -> str:
        return str(index)


def test_the_same_on_every_rank_and_each_image_is_read_once() -> None:
    broken = frozenset(Sampler(30, 20, 4).images(0, np.array([0, 20, 7, 27, 15])).tolist())
    images = Sampler(30, 20, 4).images(0, np.arange(30)).tolist()
    for rank in range(2):
        source = Counted(count=30, broken=broken)
        spares = Spares(source, Sampler(30, 10, 4, rank, world_size=2))
        found = [spares.of(0, position) for position in (0, 7, 15)]
        assert found == [(images[21], False), (images[22], False), (images[23], False)]
        assert max(source.reads) == 1


def test_nothing_to_take() -> None:
    assert Spares(Counted(count=4, broken=frozenset(range(4))), Sampler(4, 3, 0)).of(0, 1) is None

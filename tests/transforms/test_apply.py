"""RandomApply: all or nothing, in order, with its probability, and inside a config."""

import numpy as np
import pytest
import torch

from ssltyped.config import ConfigError, build, check
from ssltyped.transforms.apply import RandomApply, RandomApplyConf
from ssltyped.transforms.geometry import CenterCropConf, HorizontalFlip, HorizontalFlipConf, ResizeConf
from ssltyped.transforms.opencv import to_image
from ssltyped.types import Image, Random, Transform

IMAGE = to_image(np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8))


class Add(Transform):
    """x + number, and a record of the order."""

    def __init__(self, number: int, seen: list[int]) -> None:
        self.number, self.seen = number, seen

    def __call__(self, image: Image, random: Random) -> Image:
        self.seen.append(self.number)
        return image + self.number


def test_all_in_order_or_none() -> None:
    seen: list[int] = []
    apply, draw = RandomApply(transforms=[Add(1, seen), Add(2, seen)], p=0.3), np.random.default_rng(1)
    results = [apply(IMAGE, draw) for _ in range(1500)]
    changed = [not torch.equal(result, IMAGE) for result in results]
    assert abs(sum(changed) / 1500 - 0.3) < 0.05
    assert all(torch.equal(result, IMAGE + 3) for result, did in zip(results, changed, strict=True) if did)
    assert seen == [1, 2] * sum(changed)


def test_certain_and_never() -> None:
    draw = np.random.default_rng(0)
    flip = HorizontalFlip(p=1.0)
    for _ in range(20):
        assert torch.equal(RandomApply(transforms=[flip], p=1.0)(IMAGE, draw), IMAGE.flip(2))
        assert torch.equal(RandomApply(transforms=[flip], p=0.0)(IMAGE, draw), IMAGE)


def test_in_a_config() -> None:
    config = RandomApplyConf(transforms=[ResizeConf(size=8), CenterCropConf(size=4), HorizontalFlipConf()], p=1.0)
    assert build(config)(IMAGE, np.random.default_rng(0)).shape == (3, 4, 4)
    with pytest.raises(ConfigError, match="transforms"):
        check(RandomApplyConf(transforms=[]))  # type: ignore[config-value]  # the point of it

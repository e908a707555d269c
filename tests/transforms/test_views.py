from collections.abc import Callable

import numpy as np
import pytest
import torch
from facts import FACTS

from ssltyped.transforms.colour import ColorDistortion
from ssltyped.transforms.geometry import HorizontalFlip, RandomResizedCrop
from ssltyped.transforms.opencv import to_image
from ssltyped.transforms.views import RepeatViews, RepeatViewsConf
from ssltyped.types import Random

IMAGE = to_image(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def streams(seed: int, asked: list[int]) -> Callable[[int], Random]:
    def of_view(view: int) -> Random:
        asked.append(view)
        return np.random.default_rng([seed, view])

    return of_view


def test_each_view_draws_from_its_own_stream() -> None:
    asked: list[int] = []
    maker = RepeatViews(num_views=3, transforms=[RandomResizedCrop(size=16), ColorDistortion()])
    views = maker(IMAGE, streams(0, asked)).images
    assert asked == [0, 1, 2]
    assert [view.shape for view in views] == [(3, 16, 16)] * 3
    more = RepeatViews(num_views=5, transforms=maker.transforms)(IMAGE, streams(0, [])).images
    assert all(torch.equal(a, b) for a, b in zip(views, more, strict=False))
    assert not torch.equal(views[0], views[1])


def test_crop_sizes_are_those_of_the_last_crop() -> None:
    chain = [RandomResizedCrop(size=40), RandomResizedCrop(size=24), HorizontalFlip()]
    assert list(RepeatViews(num_views=3, transforms=[*chain]).crop_sizes) == [24, 24, 24]


def test_without_a_size_it_is_an_error() -> None:
    flat = RepeatViewsConf(transforms=[HorizontalFlip()])
    assert [problem.path for problem in RepeatViews.problems(flat, FACTS)] == ["transforms"]
    with pytest.raises(ValueError, match="size"):
        _ = RepeatViews(transforms=[HorizontalFlip()]).crop_sizes

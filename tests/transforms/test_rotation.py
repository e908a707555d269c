"""Rotate: Pillow's pixels, and every angle as often as the others; RotatedViews: the label is the turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from facts import FACTS
from PIL import Image as Pillow
from torchvision.transforms import functional as pillow
from transforms.streams import IMAGE, Noted, Streams

from ssltyped.config.resolve import problems_of
from ssltyped.transforms.geometry import CenterCrop, HorizontalFlipConf, RandomResizedCrop
from ssltyped.transforms.opencv import to_array, to_image
from ssltyped.transforms.rotation import Rotate, RotatedViews, RotatedViewsConf, rotate


@pytest.mark.parametrize("angle", [-90.0, 0.0, 30.0, 45.0, 90.0, 120.0, 180.0, 270.0, 315.0, 360.0, 450.0])
@pytest.mark.parametrize("height, width", [(12, 12), (9, 14), (11, 11)])
def test_as_torchvision_on_pillow(height: int, width: int, angle: float) -> None:
    noise = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    # torchvision declares that it takes tensors only.
    turn = cast("Callable[[Pillow.Image, float], Pillow.Image]", pillow.rotate)
    expected = np.array(turn(Pillow.fromarray(noise), angle))
    assert np.array_equal(rotate(noise, angle), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_any_number_of_channels(channels: int) -> None:
    image = to_image(np.random.default_rng(0).integers(0, 256, (8, 10, channels), dtype=np.uint8))
    got = Rotate(angles=[35.0])(image, np.random.default_rng(0))
    for channel in range(channels):
        assert np.array_equal(to_array(got)[..., channel], rotate(to_array(image)[..., [channel]], 35.0)[..., 0])


def test_angles_are_equally_frequent() -> None:
    image = to_image(np.arange(4, dtype=np.uint8).reshape(2, 2, 1))
    turns = Rotate(angles=[0.0, 90.0, 180.0, 270.0])
    draw = np.random.default_rng(0)
    results = [turns(image, draw) for _ in range(2000)]
    for quarters in range(4):
        turned = image.rot90(quarters, (1, 2))
        assert abs(sum(torch.equal(result, turned) for result in results) / 2000 - 0.25) < 0.04


def test_the_label_is_the_number_of_quarter_turns() -> None:
    """Counter-clockwise: the right column becomes the top row."""
    maker = RotatedViews(transforms=[CenterCrop(size=16)])
    upright = CenterCrop(size=16)(IMAGE, Streams()(0))
    labels = []
    for image in range(80):
        views = maker(IMAGE, Streams(image))
        (view,) = views.images
        assert views.label is not None
        assert torch.equal(view, torch.rot90(upright, views.label, (1, 2)))
        labels.append(views.label)
    assert np.bincount(labels, minlength=4).min() >= 10, "uniform: 20 each"
    (turned,) = next(v for v in (maker(IMAGE, Streams(i)) for i in range(80)) if v.label == 1).images
    assert torch.equal(turned[:, 0], upright[:, :, -1])


def test_other_angles_are_equal_parts_of_a_turn() -> None:
    maker = RotatedViews(transforms=[CenterCrop(size=16)], num_angles=6)
    upright = to_array(CenterCrop(size=16)(IMAGE, Streams()(0)))
    for image in range(30):
        views = maker(IMAGE, Streams(image))
        assert views.label is not None
        assert np.array_equal(to_array(views.images[0]), rotate(upright, 60.0 * views.label))
    assert maker.num_classes == 6


def test_the_turn_comes_after_the_chain_and_draws_after_it() -> None:
    note, streams = Noted(), Streams(2)
    maker = RotatedViews(transforms=[RandomResizedCrop(size=8), note])
    views = maker(IMAGE, streams)
    assert streams.asked == [0]
    stream = Streams(2)(0)
    upright = RandomResizedCrop(size=8)(IMAGE, stream)
    stream.random()
    assert views.label == int(stream.integers(4))
    assert torch.equal(views.images[0], torch.rot90(upright, views.label, (1, 2)))
    assert list(maker.crop_sizes) == [8]


def test_without_a_size_it_is_an_error() -> None:
    (problem,) = problems_of(RotatedViewsConf(transforms=[HorizontalFlipConf()]), FACTS)
    assert problem.path == "transforms"
    with pytest.raises(ValueError, match="no transform has a `size`"):
        _ = RotatedViews(transforms=[]).crop_sizes

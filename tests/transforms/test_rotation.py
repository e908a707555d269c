"""Rotate: Pillow's pixels, quarter turns, and every angle as often as the others."""

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torchvision.transforms import functional as pillow

from ssltyped.transforms.opencv import to_array, to_image
from ssltyped.transforms.rotation import Rotate, rotate


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

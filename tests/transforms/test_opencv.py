import cv2
import numpy as np
import pytest
import torch

from ssltyped.transforms.blur import BlurFilter, GaussianBlur
from ssltyped.transforms.colour import RandomPhotometric, Solarize
from ssltyped.transforms.geometry import (
    CenterCrop,
    HorizontalFlip,
    PasteOnCanvas,
    RandomResizedCrop,
    Resize,
    ResizeLargerSide,
)
from ssltyped.transforms.opencv import by_channels, to_array, to_image
from ssltyped.transforms.rotation import Rotate
from ssltyped.types import Transform


def test_both_ways_share_the_memory() -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = to_image(array)
    assert image.shape == (3, 5, 7)
    assert to_array(image).ctypes.data == array.ctypes.data
    assert torch.equal(image, torch.from_numpy(array).permute(2, 0, 1))


def test_one_channel_comes_back() -> None:
    assert to_image(np.zeros((5, 7), dtype=np.uint8)).shape == (1, 5, 7)


def test_memory_in_channel_order_is_copied() -> None:
    image = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    assert torch.equal(to_image(to_array(image)), image)
    assert to_array(image).flags.c_contiguous


EVERY_CHANNEL_ALIKE: list[Transform] = [
    RandomResizedCrop(size=16),
    RandomResizedCrop(size=64),
    RandomResizedCrop(size=20, scale=(1.0, 1.0), ratio=(1.2, 1.2)),
    HorizontalFlip(p=1.0),
    Resize(size=16),
    Resize(size=20),
    Resize(size=64),
    ResizeLargerSide(size=16),
    CenterCrop(size=16),
    PasteOnCanvas(size=64, top=3),
    Rotate(angles=[30.0]),
    GaussianBlur(p=1.0),
    GaussianBlur(p=1.0, filter=BlurFilter.PILLOW_BOXES),
    Solarize(p=1.0),
    RandomPhotometric(p=1.0),
]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 8, 13, 600])
@pytest.mark.parametrize("transform", EVERY_CHANNEL_ALIKE, ids=lambda one: type(one).__name__)
def test_many_channels_are_as_each_alone(transform: Transform, channels: int) -> None:
    """OpenCV fails from 5 or 513 channels on, and of two its mean over areas is rounded otherwise."""
    image = to_image(np.random.default_rng(channels).integers(0, 256, (40, 48, channels), dtype=np.uint8))
    got = transform(image, np.random.default_rng(7))
    for channel in range(0, channels, 1 + channels // 8):
        alone = transform(image[channel : channel + 1], np.random.default_rng(7))
        assert torch.equal(got[channel], alone[0])


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 6, 9])
def test_kernels_see_at_most_four_channels(channels: int) -> None:
    seen: list[int] = []
    array = np.random.default_rng(0).integers(0, 256, (6, 8, channels), dtype=np.uint8)

    def kernel(part: np.ndarray) -> np.ndarray:
        seen.append(part.shape[2])
        return cv2.flip(part, 1)

    assert np.array_equal(by_channels(kernel, array), array[:, ::-1])
    assert sum(seen) == channels
    assert max(seen) <= 4

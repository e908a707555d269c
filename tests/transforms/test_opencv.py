import numpy as np
import torch

from ssltyped.transforms.opencv import to_array, to_image


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

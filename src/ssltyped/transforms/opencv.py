"""The bridge between image tensors and OpenCV: the same memory seen as C H W by us and as H W C by OpenCV."""

from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8

from ssltyped.types import Image

Array: TypeAlias = UInt8[np.ndarray, "H W C"]
"""An image as OpenCV wants it."""


def to_array(image: Image) -> Array:
    """The pixels as H W C; no copy when the image's memory is H W C, as that of every image of ours is."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def to_image(array: UInt8[np.ndarray, "H W *C"]) -> Image:
    """The array as an image, no copy; OpenCV drops the last axis of a one-channel image, here it comes back."""
    pixels = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)

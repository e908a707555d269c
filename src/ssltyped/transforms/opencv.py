"""The bridge between image tensors and OpenCV: the same memory seen as C H W by us and as H W C by OpenCV."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8

from ssltyped.types import Image

Array: TypeAlias = UInt8[np.ndarray, "H W C"]
"""An image as OpenCV wants it."""

GROUP = 4
"""Channels that every kernel of OpenCV takes; of more some fail."""


def to_array(image: Image) -> Array:
    """The pixels as H W C; no copy when the image's memory is H W C, as that of every image of ours is."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def to_image(array: UInt8[np.ndarray, "H W *C"]) -> Image:
    """The array as an image, no copy; OpenCV drops the last axis of a one-channel image, here it comes back."""
    pixels = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def by_channels(kernel: Callable[[Array], UInt8[np.ndarray, "H2 W2 *C"]], array: Array) -> UInt8[np.ndarray, "H2 W2 C"]:
    """What a kernel of OpenCV makes of each channel of an image alone, whatever their number; by groups, for speed."""
    channels = array.shape[2]
    pair = [channels - 1] if channels % GROUP == 2 else []  # the mean over areas rounds otherwise for two channels
    groups = np.split(array, [*range(GROUP, channels, GROUP), *pair], axis=2)
    # OpenCV drops the last axis of one channel.
    made = [kernel(group) for group in groups]
    made = [part.reshape(*part.shape[:2], group.shape[2]) for part, group in zip(made, groups, strict=True)]
    return made[0] if len(made) == 1 else np.concatenate(made, axis=2)

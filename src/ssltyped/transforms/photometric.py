"""Levels put through a curve, and sharpness: solarize, posterize, autocontrast, and all of them at random."""

from collections.abc import Iterable
from typing import Annotated, Optional, Self

import cv2
import numpy as np
from annotated_types import Ge, Le
from jaxtyping import UInt8

from ssltyped.config import config_for
from ssltyped.transforms.opencv import Array, to_array, to_image
from ssltyped.types import Facts, Image, Problem, Random, Transform

LEVELS = np.arange(256)
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13
BITS = (4, 8)
SHARPNESS = (0.1, 1.9)


def _like(array: Array, changed: UInt8[np.ndarray, "H W *C"]) -> Array:
    """OpenCV drops the last axis of a one-channel image; here it comes back."""
    return changed.reshape(array.shape)


def solarize(array: Array, threshold: int) -> Array:
    """255 - x where x >= threshold: 256 is the image, 0 its negative."""
    return _like(array, cv2.LUT(array, np.where(threshold <= LEVELS, 255 - LEVELS, LEVELS).astype(np.uint8)))


def posterize(array: Array, bits: int) -> Array:
    """Only the `bits` highest bits of each level, 1 to 8."""
    return array & np.uint8(256 - 2 ** (8 - bits))


def sharpen(array: Array, factor: float) -> Array:
    """factor x + (1 - factor) s, s the image smoothed by 3 x 3 pixels inside its border: 1 is the image, 0 is s."""
    smooth = array.copy()
    smooth[1:-1, 1:-1] = _like(array, cv2.filter2D(array, -1, SMOOTH))[1:-1, 1:-1]
    # OpenCV rounds; less a half it cuts, as Pillow does.
    return _like(array, cv2.addWeighted(array, factor, smooth, 1 - factor, -0.499))


def autocontrast(array: Array) -> Array:
    """Each channel stretched so that its darkest level is 0 and its brightest 255; a uniform one stays."""
    low, high = array.min((0, 1)).astype(np.float64), array.max((0, 1)).astype(np.float64)
    scale = np.where(high > low, 255 / np.maximum(high - low, 1), 1.0)
    table = LEVELS[:, None] * scale - np.where(high > low, low * scale, 0.0)
    levels = np.clip(table.astype(np.int64), 0, 255).astype(np.uint8)
    stretched: Array = levels[array, np.arange(array.shape[2])]
    return stretched


class Solarize(Transform):
    """With probability p the levels at or above a threshold are inverted: x -> 255 - x. [C, H, W] both ways.

    VISSL draws the threshold, each of 0 .. 256 with the same probability; BYOL (Grill et al. 2020, arXiv 2006.07733,
    appendix B) and what follows it fix it at 128, with p 0.2 for the second view.

    Args:
        p: probability of solarizing
        threshold: the lowest level that is inverted; null: drawn for each image
    """

    def __init__(
        self, *, p: Annotated[float, Ge(0), Le(1)] = 0.66, threshold: Optional[Annotated[int, Ge(0), Le(256)]] = None
    ) -> None:
        self.p, self.threshold = p, threshold

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.threshold == 256:
            yield Problem("threshold", "256 inverts nothing: levels are 0 to 255")

    def __call__(self, image: Image, random: Random) -> Image:
        if random.random() >= self.p:
            return image
        threshold = int(random.integers(257)) if self.threshold is None else self.threshold
        return to_image(solarize(to_array(image), threshold))


class RandomPhotometric(Transform):
    """With probability p four changes one after another, on [C, H, W]:

        posterize to 4 .. 8 bits;  sharpness by U(0.1, 1.9);  solarize from a threshold in 0 .. 256;  autocontrast

    PIRL (Misra and van der Maaten 2020, arXiv 1912.01991), section 3.1 "photometric transformations", as in VISSL.

    Args:
        p: probability of all four
    """

    def __init__(self, *, p: Annotated[float, Ge(0), Le(1)] = 0.66) -> None:
        self.p = p

    def __call__(self, image: Image, random: Random) -> Image:
        if random.random() >= self.p:
            return image
        array = posterize(to_array(image), int(random.integers(BITS[0], BITS[1] + 1)))
        array = sharpen(array, random.uniform(*SHARPNESS))
        return to_image(autocontrast(solarize(array, int(random.integers(257)))))


SolarizeConf = config_for(Solarize)
RandomPhotometricConf = config_for(RandomPhotometric)

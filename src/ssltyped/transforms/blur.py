"""Gaussian blur."""

import math
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Self

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le
from jaxtyping import Float32, UInt8

from ssltyped.config import config_for
from ssltyped.transforms.opencv import Array, by_channels, to_array, to_image
from ssltyped.types import Facts, Image, Problem, Random, Transform

PASSES = 3
ONE = 1 << 24
"""What Pillow's whole-number weights add up to."""

TIES = 64
"""How much the difference to Pillow's weights is enlarged, see `box_kernel`; it stays below 0.001 levels."""


class BlurFilter(Enum):
    """The Gaussian itself, or Pillow's approximation of it by boxes, from which VISSL's numbers come."""

    GAUSSIAN = "gaussian"
    PILLOW_BOXES = "pillow_boxes"


def gaussian(array: Array, sigma: float) -> Array:
    """OpenCV's Gaussian, cut off at 3 sigma; beyond the border the pixels at the border go on."""
    border = cv2.BORDER_REPLICATE
    return by_channels(lambda part: cv2.GaussianBlur(part, (0, 0), sigma, borderType=border), array)


def box_kernel(sigma: float) -> Float32[np.ndarray, "K"]:
    """The box with fractional ends [a, 1, ..., 1, a] / (2 a + 2 l + 1) that, applied three times, has variance sigma^2.

    "Theoretical foundations of Gaussian convolution by extended box filtering" (Gwosdek et al., SSVM 2011), equations
    13 and 14. Pillow cuts the weights to whole numbers of 24 bits, which decides whether a half (common when sigma is a
    round number) is rounded up or down; float32 cannot hold so small a difference, therefore it is enlarged.
    """
    variance = sigma * sigma / PASSES
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    end = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    exact = np.ones(2 * whole + 3)
    exact[[0, -1]] = end
    exact /= exact.sum()
    # Pillow's radius is a float32.
    inner = int(ONE / np.float32(2 * np.float32(whole + end) + 1))
    cut = np.full(2 * whole + 3, inner / ONE)
    cut[[0, -1]] = (ONE - (2 * whole + 1) * inner) // 2 / ONE
    return (exact + TIES * (cut - exact)).astype(np.float32)


def pillow_boxes(array: Array, sigma: float) -> Array:
    """Pillow's `GaussianBlur(sigma)`: three boxes along the rows, then three along the columns, each rounded.

    The rounding in between is kept on purpose: it decides what a narrow blur (sigma below 0.5) does at all.
    """
    row = box_kernel(sigma)[None, :]

    def blur(part: Array) -> UInt8[np.ndarray, "H W *C"]:
        for kernel in (row,) * PASSES + (row.T,) * PASSES:
            part = cv2.filter2D(part, cv2.CV_8U, kernel, borderType=cv2.BORDER_REPLICATE)
        return part

    return by_channels(blur, array)


BLURS = {BlurFilter.GAUSSIAN: gaussian, BlurFilter.PILLOW_BOXES: pillow_boxes}


class GaussianBlur(Transform):
    """With probability p the image convolved with a Gaussian whose sigma is U(radius_min, radius_max) pixels.

    [C, H, W] both ways. SimCLR (arXiv 2002.05709), appendix A "Gaussian blur": p 0.5, sigma in [0.1, 2].

    Args:
        p: probability of blurring
        radius_min: smallest sigma, in pixels
        radius_max: largest sigma, in pixels
        filter: the Gaussian, or three boxes that approximate it, within 1 level of Pillow's `GaussianBlur`
    """

    def __init__(
        self,
        *,
        p: Annotated[float, Ge(0), Le(1)] = 0.5,
        radius_min: Annotated[float, Gt(0)] = 0.1,
        radius_max: Annotated[float, Gt(0)] = 2.0,
        filter: BlurFilter = BlurFilter.GAUSSIAN,
    ) -> None:
        self.p, self.radius_min, self.radius_max, self.filter = p, radius_min, radius_max, filter

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.radius_min > config.radius_max:
            yield Problem("radius_min", f"is {config.radius_min}, above radius_max, which is {config.radius_max}")

    def __call__(self, image: Image, random: Random) -> Image:
        if random.random() >= self.p:
            return image
        return to_image(BLURS[self.filter](to_array(image), random.uniform(self.radius_min, self.radius_max)))


def kernel_width(sigma: float) -> int:
    """Pixels across of a Gaussian that is cut off at 3 sigma."""
    return 2 * math.ceil(3 * sigma) + 1


GaussianBlurConf = config_for(GaussianBlur)

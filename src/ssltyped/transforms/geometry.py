"""Where the pixels of a view come from: crops, resizing, flips."""

import math
from collections.abc import Iterable
from typing import Annotated, Self

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le
from jaxtyping import UInt8
from torch import Tensor, nn

from ssltyped.config import config_for
from ssltyped.transforms.opencv import Array, by_channels, to_array, to_image
from ssltyped.types import Facts, Image, Problem, Random, Transform

CROP_ATTEMPTS = 10
"""Draws of a crop that has to fit before the central one is taken, as in torchvision."""


def resize(array: Array, height: int, width: int) -> UInt8[np.ndarray, "H2 W2 C"]:
    """The image at another size: the mean over each target pixel's area when both sides shrink, else bilinear."""
    shrinks = array.shape[0] >= height and array.shape[1] >= width
    kernel = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return by_channels(lambda part: cv2.resize(part, (width, height), interpolation=kernel), array)


class RandomResizedCrop(Transform):
    """A random part of the image, resized to a square: [C, H, W] -> [C, size, size].

    The part has area a H W with a ~ U(scale) and aspect ratio (width / height) r with log r ~ U(log ratio);
    what does not fit is drawn again, 10 times at most, then it is the largest central part whose ratio is
    allowed. The distribution is that of torchvision's transform of the same name; the kernel is the mean over
    the area when shrinking and bilinear when not. Inception-style cropping, "Going Deeper with Convolutions",
    section 6; the default scale and ratio are those of SimCLR, appendix A.

    Args:
        size: side of the square, in pixels
        scale: smallest and largest share of the image's area, in (0, 1]
        ratio: smallest and largest aspect ratio (width / height)
    """

    def __init__(
        self,
        *,
        size: Annotated[int, Gt(0)] = 224,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size, self.scale, self.ratio = size, scale, ratio

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        scale, ratio = tuple(config.scale), tuple(config.ratio)
        if not 0 < scale[0] <= scale[1] <= 1:
            yield Problem("scale", f"is {scale}; it must be (smallest, largest) share of the area in (0, 1]")
        if not 0 < ratio[0] <= ratio[1]:
            yield Problem("ratio", f"is {ratio}; it must be (smallest, largest) width / height, above 0")

    def __call__(self, image: Image, random: Random) -> UInt8[Tensor, "C _ _"]:
        array = to_array(image)
        top, left, height, width = self.box(array.shape[0], array.shape[1], random)
        return to_image(resize(array[top : top + height, left : left + width], self.size, self.size))

    def box(self, height: int, width: int, random: Random) -> tuple[int, int, int, int]:
        """Top, left, height and width of a random part of an image of this height and width."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(CROP_ATTEMPTS):
            area = height * width * random.uniform(self.scale[0], self.scale[1])
            ratio = math.exp(random.uniform(low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w
        # None fits: the central one.
        w = min(width, max(1, round(height * self.ratio[1])))
        h = min(height, max(1, round(width / self.ratio[0])))
        return (height - h) // 2, (width - w) // 2, h, w


class HorizontalFlip(Transform):
    """The mirror image with probability p: x[c, i, j] -> x[c, i, W - 1 - j].

    Args:
        p: probability of the flip
    """

    def __init__(self, *, p: Annotated[float, Ge(0), Le(1)] = 0.5) -> None:
        self.p = p

    def __call__(self, image: Image, random: Random) -> Image:
        flips = random.random() < self.p
        return to_image(by_channels(lambda part: cv2.flip(part, 1), to_array(image))) if flips else image


class Resize(Transform):
    """The whole image with its shorter side at `size`: [C, H, W] -> [C, size, floor(size W / H)] when H <= W.

    The kernel is the mean over the area when shrinking and bilinear when not. Nothing is random.

    Args:
        size: length of the shorter side, in pixels; 256 goes with a central crop of 224
    """

    def __init__(self, *, size: Annotated[int, Gt(0)] = 256) -> None:
        self.size = size

    def __call__(self, image: Image, random: Random) -> UInt8[Tensor, "C _ _"]:
        array = to_array(image)
        height, width = array.shape[:2]
        shorter = min(height, width)
        return to_image(resize(array, self.size * height // shorter, self.size * width // shorter))


class ResizeLargerSide(Transform):
    """The whole image with its longer side m at `size`: [C, H, W] -> [C, round(H size / m), round(W size / m)].

    The kernel is a triangle as wide as a target pixel when shrinking, and bilinear when not, within 1 level of
    Pillow's BILINEAR. Nothing is random. Sides of halves are rounded to even. For copy detection and retrieval of
    instances, where the whole image is compared (Tolias et al. 2016, arXiv 1511.05879, section 5: 1024).

    Args:
        size: length of the longer side, in pixels
    """

    def __init__(self, *, size: Annotated[int, Gt(0)] = 1024) -> None:
        self.size = size

    def __call__(self, image: Image, random: Random) -> UInt8[Tensor, "C _ _"]:
        ratio = self.size / max(image.shape[1:])
        sides = [max(1, round(side * ratio)) for side in image.shape[1:]]
        resized = nn.functional.interpolate(image[None], size=sides, mode="bilinear", antialias=True)[0]
        return to_image(to_array(resized))


class CenterCrop(Transform):
    """The central square: [C, H, W] -> [C, size, size]. Nothing is random.

    Raises ValueError for an image that is smaller than the square.

    Args:
        size: side of the square, in pixels
    """

    def __init__(self, *, size: Annotated[int, Gt(0)] = 224) -> None:
        self.size = size

    def __call__(self, image: Image, random: Random) -> UInt8[Tensor, "C _ _"]:
        _, height, width = image.shape
        if min(height, width) < self.size:
            raise ValueError(
                f"CenterCrop(size={self.size}) got an image of {height} x {width} pixels; put Resize before it"
            )
        # Halves are rounded to even, as Python's round does and torchvision with it.
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return image[:, top : top + self.size, left : left + self.size]


class PasteOnCanvas(Transform):
    """The image at a place of a black square, such as a digit of 28 pixels on 32: [C, H, W] -> [C, size, size].

    What lies outside the square is cut off. Nothing is random.

    Args:
        size: side of the square, in pixels
        top: row of the image's first row; may be negative
        left: column of the image's first column; may be negative
    """

    def __init__(self, *, size: Annotated[int, Gt(0)] = 32, top: int = 0, left: int = 0) -> None:
        self.size, self.top, self.left = size, top, left

    def __call__(self, image: Image, random: Random) -> UInt8[Tensor, "C _ _"]:
        array = to_array(image)
        rows, columns = (slice(max(0, -first), max(0, self.size - first)) for first in (self.top, self.left))
        part = array[rows, columns]
        canvas = np.zeros((self.size, self.size, array.shape[2]), dtype=np.uint8)
        top, left = max(0, self.top), max(0, self.left)
        canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
        return to_image(canvas)


RandomResizedCropConf = config_for(RandomResizedCrop)
HorizontalFlipConf = config_for(HorizontalFlip)
ResizeConf = config_for(Resize)
ResizeLargerSideConf = config_for(ResizeLargerSide)
CenterCropConf = config_for(CenterCrop)
PasteOnCanvasConf = config_for(PasteOnCanvas)

"""Levels and colours: brightness, contrast, saturation, hue, grey, solarize, posterize, sharpness; the space CIE LAB.

The pixel arithmetic is Pillow's (which the published methods were trained with) up to rounding: lightness is
L = 0.299 R + 0.587 G + 0.114 B, and a factor f blends x with what f = 0 gives: f x + (1 - f) x0. The hue,
which both turn in 8 bits, is as near to the exact colours as Pillow's.
"""

from collections.abc import Iterable
from typing import Annotated, Optional, Self

import cv2
import numpy as np
from annotated_types import Ge, Le
from jaxtyping import UInt8

from ssltyped.config import config_for
from ssltyped.transforms.opencv import Array, by_channels, to_array, to_image
from ssltyped.types import Facts, Image, Problem, Random, Transform

LEVELS = np.arange(256, dtype=np.float64)
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13
BITS = (4, 8)
SHARPNESS = (0.1, 1.9)

LAB_MEAN = (0.5, 128 / 255, 128 / 255)
"""With LAB_STD: (x / 255 - mean) / std is L - 50 in [-50, 50] and a, b in [-128, 127], from the levels of `ToLab`."""

LAB_STD = (0.01, 1 / 255, 1 / 255)
"""See LAB_MEAN; both are given to the data's normalization."""


class ColourTransform(Transform):
    """A transform that needs red, green and blue."""

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.num_channels not in (None, 3):
            message = f"needs 3 channels (red, green, blue), and the images have {facts.num_channels}: leave it out"
            yield Problem("", message)


def needs_colour(array: Array) -> None:
    """Raises ValueError for an image that is not of three channels."""
    if array.shape[2] != 3:
        raise ValueError(f"colour transforms work on 3 channels (red, green, blue), got {array.shape[2]}")


def _blend(array: Array, factor: float, other: Array) -> UInt8[np.ndarray, "H W *C"]:
    """factor x + (1 - factor) other."""
    # OpenCV rounds; less a half it cuts, as Pillow does.
    return cv2.addWeighted(array, factor, other, 1 - factor, -0.499)


def _blend_with_level(array: Array, factor: float, level: float) -> Array:
    """factor x + (1 - factor) level, by table; cut, not rounded, as Pillow does."""
    table = np.clip(factor * LEVELS + (1 - factor) * level, 0, 255).astype(np.uint8)
    return cv2.LUT(array, table)


def brighten(array: Array, factor: float) -> Array:
    """factor x: 0 is black, 1 the image."""
    return _blend_with_level(array, factor, 0.0)


def contrast(array: Array, factor: float) -> Array:
    """factor x + (1 - factor) m, where m is the image's mean lightness, rounded: 0 is uniform grey, 1 the image."""
    mean = cv2.mean(cv2.cvtColor(array, cv2.COLOR_RGB2GRAY))[0]
    return _blend_with_level(array, factor, float(int(mean + 0.5)))


def saturate(array: Array, factor: float) -> Array:
    """factor x + (1 - factor) L: 0 is the grey image, 1 the image."""
    return _blend(array, factor, grey(array))


def shift_hue(array: Array, shift: float) -> Array:
    """The hue turned by `shift` of a full circle, in [-0.5, 0.5]; in 8 bits, which costs 10 levels at most."""
    hsv = cv2.cvtColor(array, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(shift * 256) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def grey(array: Array) -> Array:
    """L in all three channels."""
    return cv2.cvtColor(cv2.cvtColor(array, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


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
    smooth[1:-1, 1:-1] = by_channels(lambda part: cv2.filter2D(part, -1, SMOOTH), array)[1:-1, 1:-1]
    return _like(array, _blend(array, factor, smooth))


def autocontrast(array: Array) -> Array:
    """Each channel stretched so that its darkest level is 0 and its brightest 255; a uniform one stays."""
    low, high = array.min((0, 1)).astype(np.float64), array.max((0, 1)).astype(np.float64)
    scale = np.where(high > low, 255 / np.maximum(high - low, 1), 1.0)
    table = LEVELS[:, None] * scale - np.where(high > low, low * scale, 0.0)
    levels = np.clip(table.astype(np.int64), 0, 255).astype(np.uint8)
    stretched: Array = levels[array, np.arange(array.shape[2])]
    return stretched


class ColorJitter(ColourTransform):
    """With probability p: brightness, contrast, saturation and hue changed by random factors in random order.

    The factor of each of the first three is U(max(0, 1 - s), 1 + s) for its strength s; the hue turns by
    U(-hue, hue) of a full circle. Takes and gives [3, H, W]; raises ValueError for another number of channels.
    SimCLR (arXiv 2002.05709), appendix A, whose values at strength 1 are the defaults.

    Args:
        brightness: strength of the brightness change
        contrast: strength of the contrast change
        saturation: strength of the saturation change
        hue: largest turn of the hue, as a share of the circle
        p: probability that anything is changed
    """

    def __init__(
        self,
        *,
        brightness: Annotated[float, Ge(0)] = 0.8,
        contrast: Annotated[float, Ge(0)] = 0.8,
        saturation: Annotated[float, Ge(0)] = 0.8,
        hue: Annotated[float, Ge(0), Le(0.5)] = 0.2,
        p: Annotated[float, Ge(0), Le(1)] = 0.8,
    ) -> None:
        self.brightness, self.contrast, self.saturation, self.hue, self.p = brightness, contrast, saturation, hue, p

    def __call__(self, image: Image, random: Random) -> Image:
        if random.random() >= self.p:
            return image
        array = to_array(image)
        needs_colour(array)
        for change in random.permutation(4):
            array = self._change(array, int(change), random)
        return to_image(array)

    def _change(self, array: Array, change: int, random: Random) -> Array:
        if change == 3:
            return shift_hue(array, random.uniform(-self.hue, self.hue)) if self.hue else array
        strength = (self.brightness, self.contrast, self.saturation)[change]
        factor = random.uniform(max(0.0, 1 - strength), 1 + strength)
        return (brighten, contrast, saturate)[change](array, factor) if strength else array


class RandomGrayscale(ColourTransform):
    """With probability p the grey image: L = 0.299 R + 0.587 G + 0.114 B in all channels. [3, H, W] both ways.

    Raises ValueError for another number of channels. SimCLR (arXiv 2002.05709), appendix A.

    Args:
        p: probability of the grey image
    """

    def __init__(self, *, p: Annotated[float, Ge(0), Le(1)] = 0.2) -> None:
        self.p = p

    def __call__(self, image: Image, random: Random) -> Image:
        if random.random() >= self.p:
            return image
        array = to_array(image)
        needs_colour(array)
        return to_image(grey(array))


class ColorDistortion(ColourTransform):
    """SimCLR's colour distortion of strength s, on [3, H, W]:

        with probability 0.8: ColorJitter(brightness=0.8 s, contrast=0.8 s, saturation=0.8 s, hue=0.2 s)
        then, with probability 0.2: the grey image

    SimCLR (arXiv 2002.05709), appendix A "Color distortion"; s is 1 for ImageNet and 0.5 for CIFAR-10.

    Args:
        strength: s; the hue allows at most 2.5
    """

    def __init__(self, *, strength: Annotated[float, Ge(0), Le(2.5)] = 1.0) -> None:
        self.strength = strength
        self._jitter = ColorJitter(
            brightness=0.8 * strength, contrast=0.8 * strength, saturation=0.8 * strength, hue=0.2 * strength, p=0.8
        )
        self._grayscale = RandomGrayscale(p=0.2)

    def __call__(self, image: Image, random: Random) -> Image:
        return self._grayscale(self._jitter(image, random), random)


class ToLab(ColourTransform):
    """Red, green, blue -> L, a, b as levels: 255 L / 100, a + 128, b + 128. [3, H, W] both ways.

    It is OpenCV's conversion in 8 bits (sRGB, white point D65). What the network sees is made on the batch, by
    normalizing with LAB_MEAN and LAB_STD. Transforms of colours come before it. Raises ValueError for another number
    of channels. Zhang et al. 2016, "Colorful Image Colorization" (arXiv 1603.08511), section 2.1.
    """

    def __call__(self, image: Image, random: Random) -> Image:
        array = to_array(image)
        needs_colour(array)
        return to_image(cv2.cvtColor(array, cv2.COLOR_RGB2LAB))


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


ColorJitterConf = config_for(ColorJitter)
RandomGrayscaleConf = config_for(RandomGrayscale)
ColorDistortionConf = config_for(ColorDistortion)
ToLabConf = config_for(ToLab)
SolarizeConf = config_for(Solarize)
RandomPhotometricConf = config_for(RandomPhotometric)

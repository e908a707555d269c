"""The CIE LAB colour space, in which colorization and contrastive multiview coding work."""

import cv2

from ssltyped.config import config_for
from ssltyped.transforms.colour import ColourTransform, needs_colour
from ssltyped.transforms.opencv import to_array, to_image
from ssltyped.types import Image, Random

LAB_MEAN = (0.5, 128 / 255, 128 / 255)
"""With LAB_STD: (x / 255 - mean) / std is L - 50 in [-50, 50] and a, b in [-128, 127], from the levels of `ToLab`."""

LAB_STD = (0.01, 1 / 255, 1 / 255)
"""See LAB_MEAN; both are given to the data's normalization."""


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


ToLabConf = config_for(ToLab)

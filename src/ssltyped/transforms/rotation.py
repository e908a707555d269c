"""Rotation about the centre."""

from typing import Annotated

import numpy as np
from annotated_types import Len
from PIL import Image as Pillow

from ssltyped.config import config_for
from ssltyped.transforms.opencv import Array, to_array, to_image
from ssltyped.types import Image, Random, Transform


def rotate(array: Array, angle: float) -> Array:
    """The image turned counter-clockwise by `angle` degrees, at its size: nearest pixel, black where there is none.

    Pillow does it, whose pixels those of torchvision are; OpenCV rounds some positions to another neighbour. A
    quarter turn of a square moves pixels only.
    """
    if angle % 90 == 0 and (angle % 180 == 0 or array.shape[0] == array.shape[1]):
        return np.rot90(array, k=int(angle // 90) % 4)
    channels = [Pillow.fromarray(np.ascontiguousarray(array[:, :, c])).rotate(angle) for c in range(array.shape[2])]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


class Rotate(Transform):
    """The image turned counter-clockwise about its centre by one of `angles`, each with the same probability.

    [C, H, W] both ways: nearest pixel, corners cut off, black where there was no image. RotNet (Gidaris et al. 2018,
    arXiv 1803.07728), section 2: four quarter turns.

    Args:
        angles: in degrees; one of them is drawn for each image
    """

    def __init__(self, *, angles: Annotated[list[float], Len(1)]) -> None:
        self.angles = angles

    def __call__(self, image: Image, random: Random) -> Image:
        return to_image(rotate(to_array(image), float(self.angles[int(random.integers(len(self.angles)))])))


RotateConf = config_for(Rotate)

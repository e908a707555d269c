"""Rotation about the centre, and the pretext task of RotNet: which way up an image is."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Optional, Self

import numpy as np
from annotated_types import Gt, Len
from PIL import Image as Pillow

from ssltyped.config import config_for
from ssltyped.transforms.opencv import Array, to_array, to_image
from ssltyped.transforms.views import applied, last_size
from ssltyped.types import Facts, Image, Problem, Random, Transform, ViewMaker, Views


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


class RotatedViews(ViewMaker):
    """One view, turned counter-clockwise by 360 label / num_angles degrees; the label is uniform.

    The chain of transforms and then the label draw from `random(0)`. A quarter turn moves pixels only; other angles
    take the nearest pixel and cut corners off (`rotate`). RotNet: Gidaris et al. 2018,
    arXiv 1803.07728, section 2, with four quarter turns. Raises ValueError if no transform gives the view a size.

    Args:
        transforms: image to a square one, by the same chain as in RepeatViews
        num_angles: classes, equal parts of a full turn
    """

    def __init__(self, *, transforms: list[Transform], num_angles: Annotated[int, Gt(1)] = 4) -> None:
        self.transforms, self.num_angles = transforms, num_angles

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if not last_size(config.transforms):
            yield Problem("transforms", "no transform gives the view a size; add one with a `size`, such as CenterCrop")

    @property
    def crop_sizes(self) -> Sequence[int]:
        size = last_size(self.transforms)
        if not size:
            raise ValueError("RotatedViews: no transform has a `size`, such as CenterCrop has")
        return (size,)

    @property
    def num_classes(self) -> Optional[int]:
        return self.num_angles

    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views:
        stream = random(0)
        upright = applied(self.transforms, image, stream)
        label = int(stream.integers(self.num_angles))
        return Views([to_image(rotate(to_array(upright), 360 * label / self.num_angles))], label=label)


RotateConf = config_for(Rotate)
RotatedViewsConf = config_for(RotatedViews)

"""Random streams by number, as the pipeline hands them to a view maker, that note which ones are asked for."""

from __future__ import annotations

import numpy as np

from ssltyped.data.sampler import random_of
from ssltyped.transforms.opencv import to_image
from ssltyped.types import Image, Random, Transform

IMAGE = to_image(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


class Streams:
    """The streams of one image; `asked` lists their numbers in order."""

    def __init__(self, image: int = 0) -> None:
        self.image, self.asked = image, list[int]()

    def __call__(self, view: int) -> Random:
        self.asked.append(view)
        return random_of(3, 0, self.image, view)


class Noted(Transform):
    """Leaves the image as it is and keeps what it drew."""

    def __init__(self) -> None:
        self.drawn = list[float]()

    def __call__(self, image: Image, random: Random) -> Image:
        self.drawn.append(random.random())
        return image

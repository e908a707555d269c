"""Image to views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

from annotated_types import Gt
from jaxtyping import UInt8
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.types import Facts, Image, Problem, Random, Transform, ViewMaker, Views


def _last_size(transforms: Sequence[object]) -> int:
    """The side that the last transform (or config of one) with a `size` gives; 0 if none has one."""
    sizes = [size for transform in transforms if isinstance(size := getattr(transform, "size", None), int)]
    return sizes[-1] if sizes else 0


class RepeatViews(ViewMaker):
    """V views of an image by the same chain of transforms, each with its own randomness.

        view v = t_n(... t_2(t_1(image, r_v), r_v) ..., r_v)   with r_v = random(v), v = 0 .. V - 1

    The side of the views is the `size` of the last transform that has one. SimCLR (arXiv 2002.05709), section
    2.1: two views an image.

    Args:
        num_views: V, how many views of each image
        transforms: the chain, applied in this order to every view
    """

    def __init__(self, *, num_views: Annotated[int, Gt(0)] = 2, transforms: list[Transform]) -> None:
        self.num_views = num_views
        self.transforms = transforms

    def problems(self, facts: Facts) -> Iterable[Problem]:
        if not _last_size(self.transforms):
            yield Problem(
                "transforms",
                "no transform gives the views one size, so they cannot be stacked; add one with a `size`, "
                "such as RandomResizedCrop",
            )

    @property
    def crop_sizes(self) -> Sequence[int]:
        """The same side V times. Raises ValueError if no transform gives a size."""
        size = _last_size(self.transforms)
        if not size:
            raise ValueError("RepeatViews: no transform has a `size`, such as RandomResizedCrop has")
        return (size,) * self.num_views

    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views:
        return Views([self._view(image, random(view)) for view in range(self.num_views)])

    def _view(self, image: Image, random: Random) -> UInt8[Tensor, "C _ _"]:
        for transform in self.transforms:
            image = transform(image, random)
        return image


RepeatViewsConf = config_for(RepeatViews)

"""Several transforms as one, with a probability."""

from typing import Annotated

from annotated_types import Ge, Le, Len

from ssltyped.config import config_for
from ssltyped.transforms.views import applied
from ssltyped.types import Image, Random, Transform


class RandomApply(Transform):
    """With probability p all of the transforms, in their order; else the image as it is.

    Args:
        transforms: what is done to the image
        p: probability of all of them
    """

    def __init__(
        self, *, transforms: Annotated[list[Transform], Len(1)], p: Annotated[float, Ge(0), Le(1)] = 0.5
    ) -> None:
        self.transforms, self.p = transforms, p

    def __call__(self, image: Image, random: Random) -> Image:
        return applied(self.transforms, image, random) if random.random() < self.p else image


RandomApplyConf = config_for(RandomApply)

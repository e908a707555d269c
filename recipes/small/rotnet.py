"""RotNet: Gidaris et al. 2018 (arXiv 1803.07728)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, augmented, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.transforms.rotation import RotatedViewsConf


def rotnet(dials: Dials = DIGITS) -> Experiment:
    """Which of four quarter turns."""
    return small(
        dials,
        loss=CrossEntropyLossConf(),
        heads={"classifier": MLPHeadConf(dims=INFERRED)},
        views=RotatedViewsConf(transforms=augmented(size=dials.image_size)),
    )


recipe = rotnet()

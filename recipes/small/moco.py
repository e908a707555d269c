"""MoCo v2: Chen et al. 2020 (arXiv 2003.04297)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, projector, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.losses.moco import MoCoLossConf


def moco(dials: Dials = DIGITS) -> Experiment:
    """A queue of a quarter of the images; temperature 0.1."""
    return small(
        dials,
        loss=MoCoLossConf(queue_size=INFERRED, momentum=INFERRED, temperature=0.1),
        heads=projector(),
        views=crops(2, size=dials.image_size),
    )


recipe = moco()

"""MoCo v1: He et al. 2020 (arXiv 1911.05722)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.moco import MoCoLossConf


def moco_v1(dials: Dials = DIGITS) -> Experiment:
    """A linear head, and the paper's temperature."""
    return small(
        dials,
        loss=MoCoLossConf(queue_size=INFERRED, momentum=INFERRED, temperature=0.07),
        heads={"projector": MLPHeadConf(dims=[64])},
        views=crops(2, size=dials.image_size),
    )


recipe = moco_v1()

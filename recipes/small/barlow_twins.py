"""Barlow Twins: Zbontar et al. 2021 (arXiv 2103.03230)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, small
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.barlow_twins import BarlowTwinsLossConf


def barlow_twins(dials: Dials = DIGITS) -> Experiment:
    """Two layers of 256; a larger weight of the off-diagonal than for 8192."""
    return small(
        dials,
        loss=BarlowTwinsLossConf(lambda_off=0.02),
        heads={"projector": MLPHeadConf(dims=[256, 256], use_relu=True, use_bn=True)},
        views=crops(2, size=dials.image_size),
    )


recipe = barlow_twins()

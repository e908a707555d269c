"""SimCLR: Chen et al. 2020 (arXiv 2002.05709)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, projector, small
from ssltyped.experiment import Experiment
from ssltyped.losses.simclr import SimCLRLossConf


def simclr(dials: Dials = DIGITS) -> Experiment:
    """Two views; temperature 0.2 for small batches."""
    return small(
        dials,
        loss=SimCLRLossConf(temperature=0.2),
        heads=projector(),
        views=crops(2, size=dials.image_size),
    )


recipe = simclr()

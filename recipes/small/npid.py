"""NPID: Wu et al. 2018 (arXiv 1805.01978)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.npid import MemoryBankLossConf


def npid(dials: Dials = DIGITS) -> Experiment:
    """A linear head; NCE whose constant follows, as few images come close to the bank."""
    return small(
        dials,
        loss=MemoryBankLossConf(num_negatives=INFERRED, temperature=0.5, norm_constant_momentum=0.99),
        heads={"projector": MLPHeadConf(dims=[64])},
        views=crops(1, size=dials.image_size),
    )


recipe = npid()

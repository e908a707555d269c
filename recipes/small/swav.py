"""SwAV: Caron et al. 2020 (arXiv 2006.09882)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.heads.prototypes import PrototypesHeadConf
from ssltyped.losses.swav import SwAVLossConf


def swav(dials: Dials = DIGITS) -> Experiment:
    """One prototype for 5 images; codes sharper than for large batches, and hard (section 3.1)."""
    return small(
        dials,
        loss=SwAVLossConf(epsilon=0.03, hard_assignment_epochs=dials.epochs),
        heads={"head": PrototypesHeadConf(dims=[128, 64], num_prototypes=INFERRED)},
        views=crops(2, size=dials.image_size),
    )


recipe = swav()

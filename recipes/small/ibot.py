"""iBOT: Zhou et al. 2022 (arXiv 2111.07832)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, small, vit
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.heads.ibot import IBOTHeadConf
from ssltyped.losses.ibot import IBOTLossConf
from ssltyped.transforms.masks import MaskedViewsConf, Shape
from ssltyped.trunks.vit import Masking


def ibot(dials: Dials = DIGITS) -> Experiment:
    """TODO"""
    masked = MaskedViewsConf(
        views=crops(2, size=dials.image_size),
        patch_size=dials.image_size // 8,
        ratios=[(0.0, 0.0), (0.3, 0.2)],
        shape=Shape.BLOCKS,
    )
    return small(
        dials,
        loss=IBOTLossConf(momentum=INFERRED),
        heads={"head": IBOTHeadConf(num_prototypes=INFERRED, hidden_dim=256, bottleneck_dim=64, feature="lastBLK")},
        views=masked,
        trunk=vit(dials, masking=Masking.REPLACE),
    )


recipe = ibot()

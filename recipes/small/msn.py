"""MSN: Assran et al. 2022 (arXiv 2204.07141)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, projector, small, vit
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.losses.msn import MSNLossConf
from ssltyped.transforms.masks import MaskedViewsConf, Shape
from ssltyped.trunks.vit import Masking


def msn(dials: Dials = DIGITS) -> Experiment:
    """TODO"""
    anchors = MaskedViewsConf(
        views=crops(3, size=dials.image_size),
        masked=[1, 2],
        patch_size=dials.image_size // 8,
        ratios=[(0.3, 0.0)],
        shape=Shape.RANDOM,
    )
    return small(
        dials,
        loss=MSNLossConf(num_prototypes=INFERRED, momentum=INFERRED),
        heads=projector(),
        views=anchors,
        trunk=vit(dials, masking=Masking.DROP),
    )


recipe = msn()

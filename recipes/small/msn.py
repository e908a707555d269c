"""MSN: Assran et al. 2022 (arXiv 2204.07141)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, projector, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.losses.msn import MSNLossConf


def msn(dials: Dials = DIGITS) -> Experiment:
    """A target and two anchors, crops of a ResNet in place of masked patches; prototypes held to even use."""
    return small(
        dials,
        loss=MSNLossConf(num_prototypes=INFERRED, momentum=0.9, lambda_entropy=10.0),
        heads=projector(),
        views=crops(3, size=dials.image_size, scale=(0.5, 1.0)),
        base_lr=1.6e-3,
    )


recipe = msn()

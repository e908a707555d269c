"""iBOT: Zhou et al. 2022 (arXiv 2111.07832)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.heads.ibot import IBOTHeadConf
from ssltyped.losses.ibot import IBOTLossConf
from ssltyped.transforms.masks import MaskedViewsConf, Shape
from ssltyped.trunks.vit import Masking, VisionTransformerConf
from ssltyped.types import Trunk


def vit(dials: Dials) -> Trunk:
    """A transformer of three blocks and 384 x width channels on 4 x 4 patches (DeiT-S is twelve blocks of 384)."""
    dim = int(384 * dials.width)
    return VisionTransformerConf(
        image_size=dials.image_size,
        patch_size=dials.image_size // 4,
        num_layers=3,
        num_heads=max(1, dim // 32),
        hidden_dim=dim,
        mlp_dim=2 * dim,
        masking=Masking.REPLACE,
    )


def ibot(dials: Dials = DIGITS) -> Experiment:
    """A view whole and a view with a third of its patches masked by blocks, on a small transformer."""
    masked = MaskedViewsConf(
        views=crops(2, size=dials.image_size),
        patch_size=dials.image_size // 4,
        ratios=[(0.0, 0.0), (0.3, 0.2)],
        shape=Shape.BLOCKS,
    )
    return small(
        dials,
        loss=IBOTLossConf(momentum=0.99, teacher_temperature=0.04, teacher_patch_temperature=0.04),
        heads={"head": IBOTHeadConf(num_prototypes=INFERRED, hidden_dim=256, bottleneck_dim=64, feature="lastBLK")},
        views=masked,
        trunk=vit(dials),
        base_lr=8e-4,
        weight_decay=0.04,
    )


recipe = ibot()

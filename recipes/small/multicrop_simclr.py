"""SimCLR on crops of two sizes: Chen et al. 2020 (arXiv 2002.05709), with SwAV's multi-crop (arXiv 2006.09882)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, projector, small
from ssltyped.experiment import Experiment
from ssltyped.losses.simclr import MultiCropSimCLRLossConf
from ssltyped.transforms.views import MultiCropConf


def multicrop_simclr(dials: Dials = DIGITS) -> Experiment:
    """Two views, and two smaller ones that see less of the image."""
    large, small_ones = dials.image_size, 3 * dials.image_size // 4
    return small(
        dials,
        loss=MultiCropSimCLRLossConf(temperature=0.2),
        heads=projector(),
        views=MultiCropConf(groups=[crops(2, size=large), crops(2, size=small_ones, scale=(0.3, 0.8))]),
    )


recipe = multicrop_simclr()

"""Jigsaw: Noroozi and Favaro 2016 (arXiv 1603.09246)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, augmented, small
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.heads.plumbing import HeadSequenceConf, SiameseConcatHeadConf
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.transforms.geometry import RandomResizedCropConf
from ssltyped.transforms.patches import PatchViewsConf


def jigsaw(dials: Dials = DIGITS) -> Experiment:
    """Four quarters of a crop, each in colours of its own, in one of their 24 orders."""
    patch = augmented(size=dials.image_size // 2, scale=(0.7, 1.0))
    return small(
        dials,
        loss=CrossEntropyLossConf(),
        heads={
            "classifier": HeadSequenceConf(heads=[SiameseConcatHeadConf(num_towers=4), MLPHeadConf(dims=[128, 24])])
        },
        views=PatchViewsConf(
            transforms=[RandomResizedCropConf(size=dials.image_size, scale=(0.6, 1.0))],
            patch_transforms=patch,
            jitter=dials.image_size // 8,
            num_patches=4,
            num_permutations=24,
        ),
    )


recipe = jigsaw()

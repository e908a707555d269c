"""PIRL: Misra and van der Maaten 2020 (arXiv 1912.01991)."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, augmented, crops, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.heads.plumbing import HeadSequenceConf, SiameseConcatHeadConf
from ssltyped.losses.npid import Contrast, MemoryBankLossConf
from ssltyped.transforms.geometry import RandomResizedCropConf
from ssltyped.transforms.patches import PatchViewsConf
from ssltyped.transforms.views import SeveralInputsConf


def pirl(dials: Dials = DIGITS) -> Experiment:
    """The image and its four shuffled patches, each against the bank."""
    towers = HeadSequenceConf(heads=[SiameseConcatHeadConf(num_towers=4), MLPHeadConf(dims=[128, 64])], input="patches")
    patches = PatchViewsConf(
        transforms=[RandomResizedCropConf(size=dials.image_size, scale=(0.6, 1.0))],
        patch_transforms=augmented(size=dials.image_size // 2, scale=(0.7, 1.0)),
        jitter=dials.image_size // 16,
        num_patches=4,
        shuffle=True,
    )
    return small(
        dials,
        loss=MemoryBankLossConf(
            heads=["image", "patches"],
            num_negatives=INFERRED,
            loss_weights=[0.5, 0.5],
            contrast=Contrast.INFO_NCE,
            memory_head="image",
            temperature=0.2,
        ),
        heads={"image": MLPHeadConf(dims=[128, 64], use_bn=True, input="images"), "patches": towers},
        views=SeveralInputsConf(names=["images", "patches"], views=[crops(1, size=dials.image_size), patches]),
        base_lr=2.4e-3,
    )


recipe = pirl()

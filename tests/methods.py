"""Every method on tiny data: a small ResNet or ViT, 24 images of 20 x 20, batches of 8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Optional

from tiny import PatchesConf, tiny

from ssltyped import config
from ssltyped.data.pipeline import DataConf
from ssltyped.data.splits import TrainSplitConf
from ssltyped.experiment import Experiment
from ssltyped.heads.ibot import IBOTHeadConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.heads.plumbing import HeadSequenceConf, SiameseConcatHeadConf
from ssltyped.heads.prototypes import DINOHeadConf, PrototypesHeadConf
from ssltyped.losses.barlow_twins import BarlowTwinsLossConf
from ssltyped.losses.deepcluster import DeepClusterV2LossConf
from ssltyped.losses.dino import DINOLossConf
from ssltyped.losses.ibot import IBOTLossConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.msn import MSNLossConf
from ssltyped.losses.npid import Contrast, MemoryBankLossConf
from ssltyped.losses.simclr import MultiCropSimCLRLossConf
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.losses.swav import SwAVLossConf
from ssltyped.model.freeze import FreezeConf
from ssltyped.transforms.geometry import HorizontalFlipConf, RandomResizedCropConf
from ssltyped.transforms.masks import MaskedViewsConf, Shape
from ssltyped.transforms.patches import PatchViewsConf
from ssltyped.transforms.rotation import RotatedViewsConf
from ssltyped.transforms.views import MultiCropConf, RepeatViewsConf, SeveralInputsConf
from ssltyped.trunks.resnet import ResNetConf, Stem
from ssltyped.trunks.vit import Masking, VisionTransformerConf
from ssltyped.types import Head, Loss, Trunk, ViewMaker

RESNET = ResNetConf(depth=18, width_multiplier=0.0625, stem=Stem.SMALL)
"""A sixteenth of the width: res2 to res5 are 4, 8, 16 and 32 wide."""

PATCH = 4
NOTHING: Mapping[str, object] = MappingProxyType({})


def crops(count: int, size: int = 16) -> ViewMaker:
    """Views of random crops that may be flipped."""
    return RepeatViewsConf(num_views=count, transforms=[RandomResizedCropConf(size=size), HorizontalFlipConf()])


def vit(masking: Masking = Masking.NONE, drop: float = 0.0) -> Trunk:
    """Two blocks of width 16 on patches of 4 pixels; with stochastic depth and dropout if asked."""
    return VisionTransformerConf(
        image_size=16,
        patch_size=PATCH,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        masking=masking,
        dropout_rate=drop,
        drop_path_rate=drop,
    )


def method(
    *,
    views: ViewMaker,
    heads: Mapping[str, Head],
    loss: Loss,
    trunk: Trunk = RESNET,
    fields: Mapping[str, object] = NOTHING,
    output: Path = Path("runs"),
    steps: int = 4,
    images: int = 24,
) -> Experiment:
    """`tiny` with other parts; `fields` are those of the experiment by path."""
    train = TrainSplitConf(source=PatchesConf(count=images), views=views, batch_size=8, num_workers=0)
    base = tiny(output=output, steps=steps)
    parts = {"trunk": trunk, "heads": dict(heads), "loss": loss, "data": DataConf(train=train)}
    return config.replaced(base, {**parts, **fields})


def multicrop(*, masked: Optional[Shape] = None) -> ViewMaker:
    """Two crops of 16 pixels and two of 8; masks on the large ones."""
    both = MultiCropConf(groups=[crops(2), crops(2, 8)])
    return both if masked is None else MaskedViewsConf(views=both, masked=[0, 1], patch_size=PATCH, shape=masked)


def jigsaw(orders: Optional[int] = None) -> ViewMaker:
    """Nine patches of 6 pixels out of cells of 8, put in one of some orders if asked."""
    return PatchViewsConf(
        transforms=[RandomResizedCropConf(size=24)],
        patch_transforms=[HorizontalFlipConf()],
        jitter=2,
        num_permutations=orders,
    )


def towers(num_towers: int, *dims: int, input: Optional[str] = None) -> Head:
    """What the patches' features say together."""
    heads: list[Head] = [SiameseConcatHeadConf(num_towers=num_towers), MLPHeadConf(dims=list(dims))]
    return HeadSequenceConf(heads=heads, input=input)


def ibot(**fields: object) -> Experiment:
    return method(
        views=multicrop(masked=Shape.BLOCKS),
        trunk=vit(Masking.REPLACE, drop=0.1),
        heads={
            "head": IBOTHeadConf(
                num_prototypes=12, num_patch_prototypes=10, hidden_dim=16, bottleneck_dim=8, feature="lastBLK"
            )
        },
        loss=IBOTLossConf(temperature_warmup_epochs=1),
        fields=fields,
    )


def msn() -> Experiment:
    """The first view is the target, whole; an anchor of its size and two small ones have half of their patches."""
    anchors = MultiCropConf(groups=[crops(2), crops(2, 8)])
    masked = [1, 2, 3]
    return method(
        views=MaskedViewsConf(views=anchors, masked=masked, patch_size=PATCH, ratios=[(0.5, 0.0)], shape=Shape.RANDOM),
        trunk=vit(Masking.DROP),
        heads={"head": MLPHeadConf(dims=[16, 8], use_bn=True)},
        loss=MSNLossConf(num_prototypes=12),
    )


def pirl() -> Experiment:
    """Heads on the whole image at two depths and on its patches at a third; the whole image moves the bank."""
    return method(
        views=SeveralInputsConf(names=["images", "patches"], views=[crops(1), jigsaw()]),
        heads={
            "image": MLPHeadConf(dims=[8], input="images"),
            "deep": MLPHeadConf(dims=[16, 8], input="images"),
            "patches": towers(9, 16, 8, input="patches"),
        },
        loss=MemoryBankLossConf(
            heads=["image", "deep", "patches"],
            num_negatives=6,
            loss_weights=[0.5, 0.25, 0.25],
            contrast=Contrast.INFO_NCE,
            memory_head="image",
        ),
    )


MLP = MLPHeadConf(dims=[16, 8])
SWAV = PrototypesHeadConf(dims=[16, 8], num_prototypes=[6, 5])
METHODS: Mapping[str, Experiment] = {
    "multicrop_simclr": method(views=multicrop(), heads={"head": MLP}, loss=MultiCropSimCLRLossConf()),
    "barlow_twins": method(
        views=crops(2), heads={"head": MLPHeadConf(dims=[16, 8], use_bn=True)}, loss=BarlowTwinsLossConf()
    ),
    "moco": method(views=crops(2), heads={"head": MLP}, loss=MoCoLossConf(queue_size=24, momentum=0.9)),
    "swav": method(
        views=multicrop(),
        heads={"head": SWAV},
        loss=SwAVLossConf(queue_size=16, queue_start_steps=1, hard_assignment_steps=1),
        fields={"freeze": [FreezeConf(parts=["heads.head.prototypes"], epochs=0.34)]},
    ),
    "swav_momentum": method(views=crops(2), heads={"head": SWAV}, loss=SwAVLossConf(momentum=0.9, queue_size=8)),
    "deepcluster_v2": method(
        views=multicrop(),
        heads={"head": PrototypesHeadConf(dims=[16, 8], num_prototypes=[])},
        loss=DeepClusterV2LossConf(num_clusters=[4, 3], crops_for_memory=[0, 1]),
    ),
    "npid": method(views=crops(1), heads={"head": MLPHeadConf(dims=[8])}, loss=MemoryBankLossConf(num_negatives=6)),
    "pirl": pirl(),
    "dino": method(
        views=multicrop(),
        trunk=vit(drop=0.1),
        heads={"head": DINOHeadConf(num_prototypes=12, hidden_dim=16, bottleneck_dim=8, use_bn=True)},
        loss=DINOLossConf(momentum=0.9, temperature_warmup_epochs=1),
    ),
    "ibot": ibot(),
    "msn": msn(),
    "jigsaw": method(views=jigsaw(orders=5), heads={"head": towers(9, 16, 5)}, loss=CrossEntropyLossConf()),
    "rotnet": method(
        views=RotatedViewsConf(transforms=[RandomResizedCropConf(size=16)]),
        heads={"head": MLPHeadConf(dims=[4])},
        loss=CrossEntropyLossConf(),
    ),
}

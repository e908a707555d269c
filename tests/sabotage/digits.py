"""Every method on the embedded digits, small enough for a test: what is healthy, and what is then sabotaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from recipes.quickstart import digit_views, quickstart
from recipes.simclr import warmup_cosine
from ssltyped import config
from ssltyped.engine.checkpoint import CheckpointsConf
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
from ssltyped.losses.simclr import MultiCropSimCLRLossConf, SimCLRLossConf
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.losses.swav import SwAVLossConf
from ssltyped.transforms.colour import ColorJitterConf, RandomGrayscaleConf
from ssltyped.transforms.geometry import RandomResizedCropConf
from ssltyped.transforms.masks import MaskedViewsConf, Shape
from ssltyped.transforms.patches import PatchViewsConf
from ssltyped.transforms.rotation import RotatedViewsConf
from ssltyped.transforms.views import MultiCropConf, RepeatViewsConf, SeveralInputsConf
from ssltyped.trunks.resnet import ResNetConf, Stem
from ssltyped.trunks.vit import Masking, VisionTransformerConf
from ssltyped.types import Callback, Head, Loss, Transform, Trunk, ViewMaker

RESNET = ResNetConf(depth=18, width_multiplier=0.25, stem=Stem.IMAGENET)
BATCH = 64


def distorted(size: int, scale: tuple[float, float]) -> list[Transform]:
    """As the quickstart's views, at another size."""
    return [
        RandomResizedCropConf(size=size, scale=scale),
        ColorJitterConf(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5, p=0.8),
        RandomGrayscaleConf(p=0.2),
    ]


def one_view() -> ViewMaker:
    return RepeatViewsConf(num_views=1, transforms=distorted(32, (0.3, 1.0)))


def multicrop() -> ViewMaker:
    """Two crops of the quickstart's, two small ones."""
    small = RepeatViewsConf(num_views=2, transforms=distorted(16, (0.15, 0.4)))
    return MultiCropConf(groups=[digit_views(), small])


def jigsaw(orders: Optional[int] = None) -> ViewMaker:
    return PatchViewsConf(
        transforms=[RandomResizedCropConf(size=33)],
        patch_transforms=[RandomGrayscaleConf(p=0.2)],
        jitter=2,
        num_permutations=orders,
    )


def towers(*dims: int, input: Optional[str] = None) -> Head:
    return HeadSequenceConf(heads=[SiameseConcatHeadConf(num_towers=9), MLPHeadConf(dims=list(dims))], input=input)


def vit(masking: Masking = Masking.NONE) -> Trunk:
    return VisionTransformerConf(
        image_size=32, patch_size=8, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, masking=masking
    )


def digits(
    *,
    loss: Loss,
    heads: Mapping[str, Head],
    views: Optional[ViewMaker] = None,
    trunk: Trunk = RESNET,
    output: Path = Path("runs"),
    steps: int = 100,
    batch_size: int = BATCH,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
) -> Experiment:
    """A method with the quickstart's data and optimizer."""
    parts = {
        "trunk": trunk,
        "heads": dict(heads),
        "loss": loss,
        "data.train.views": views or digit_views(),
        "data.train.num_workers": 0,
        "data.train.batch_size": batch_size,
        "schedule": warmup_cosine(warmup=0.1),
        "epochs": None,
        "steps": steps,
        "callbacks": list(callbacks),
        "checkpoints": CheckpointsConf(every_epochs=1000),
        "output": output,
        "seed": seed,
        "log_every": 1000,
    }
    return config.replaced(quickstart(), parts)


MLP = MLPHeadConf(dims=[128, 64], use_relu=True, use_bn=True)
BARE = MLPHeadConf(dims=[128, 64], use_relu=True)
SWAV = PrototypesHeadConf(dims=[128, 64], num_prototypes=[300, 300, 300])
DINO = DINOHeadConf(num_prototypes=256, hidden_dim=128, bottleneck_dim=64, use_bn=True)


def healthy(**fields: object) -> Mapping[str, Experiment]:
    """Every method that learns from images alone, and the pretext tasks."""
    anchors = MultiCropConf(groups=[RepeatViewsConf(num_views=2, transforms=distorted(32, (0.3, 1.0)))])
    made = {
        "simclr": digits(loss=SimCLRLossConf(temperature=0.2), heads={"head": MLP}),
        "simclr_bare": digits(loss=SimCLRLossConf(temperature=0.2), heads={"head": BARE}),
        "multicrop_simclr": digits(loss=MultiCropSimCLRLossConf(), heads={"head": MLP}, views=multicrop()),
        "moco": digits(
            loss=MoCoLossConf(queue_size=5 * BATCH, momentum=0.99, temperature=0.1, shuffle=False), heads={"head": BARE}
        ),
        "barlow_twins": digits(
            loss=BarlowTwinsLossConf(lambda_off=0.02),
            heads={"head": MLPHeadConf(dims=[256, 256], use_relu=True, use_bn=True)},
        ),
        "swav": digits(loss=SwAVLossConf(epsilon=0.03, hard_assignment_steps=10_000), heads={"head": SWAV}),
        "swav_queue": digits(
            loss=SwAVLossConf(
                epsilon=0.03, hard_assignment_steps=10_000, queue_size=4 * BATCH, queue_start_steps=20, momentum=0.99
            ),
            heads={"head": SWAV},
        ),
        "deepcluster_v2": digits(
            loss=DeepClusterV2LossConf(num_clusters=[200, 200, 200], crops_for_memory=[0, 1]),
            heads={"head": PrototypesHeadConf(dims=[128, 64], num_prototypes=[])},
        ),
        "npid": digits(
            loss=MemoryBankLossConf(num_negatives=500, temperature=0.5), heads={"head": BARE}, views=one_view()
        ),
        "npid_pp": digits(
            loss=MemoryBankLossConf(num_negatives=500, temperature=0.2, contrast=Contrast.INFO_NCE),
            heads={"head": BARE},
            views=one_view(),
        ),
        "pirl": digits(
            loss=MemoryBankLossConf(
                heads=["image", "patches"],
                num_negatives=500,
                temperature=0.2,
                loss_weights=[0.5, 0.5],
                contrast=Contrast.INFO_NCE,
                memory_head="image",
            ),
            heads={"image": MLPHeadConf(dims=[64], input="images"), "patches": towers(64, input="patches")},
            views=SeveralInputsConf(names=["images", "patches"], views=[one_view(), jigsaw()]),
        ),
        "dino": digits(loss=DINOLossConf(momentum=0.99), heads={"head": DINO}, views=multicrop()),
        "ibot": digits(
            loss=IBOTLossConf(momentum=0.99),
            heads={
                "head": IBOTHeadConf(
                    num_prototypes=128, num_patch_prototypes=128, hidden_dim=64, bottleneck_dim=32, feature="lastBLK"
                )
            },
            views=MaskedViewsConf(views=digit_views(), masked=[0, 1], patch_size=8, shape=Shape.BLOCKS),
            trunk=vit(Masking.REPLACE),
        ),
        "msn": digits(
            loss=MSNLossConf(num_prototypes=64, momentum=0.99),
            heads={"head": MLPHeadConf(dims=[128, 64], use_relu=True, use_bn=True)},
            views=MaskedViewsConf(views=anchors, masked=[1], patch_size=8, ratios=[(0.5, 0.0)], shape=Shape.RANDOM),
            trunk=vit(Masking.DROP),
        ),
        "rotnet": digits(
            loss=CrossEntropyLossConf(),
            heads={"head": MLPHeadConf(dims=[4])},
            views=RotatedViewsConf(transforms=distorted(32, (0.3, 1.0))),
        ),
        "jigsaw": digits(loss=CrossEntropyLossConf(), heads={"head": towers(64, 24)}, views=jigsaw(orders=24)),
        "supervised": digits(loss=CrossEntropyLossConf(), heads={"head": MLPHeadConf(dims=[10])}, views=one_view()),
    }
    return {name: config.replaced(recipe, dict(fields)) for name, recipe in made.items()}

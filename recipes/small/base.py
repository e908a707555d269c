"""What the small recipes share: trunk, images, optimizer, schedule, and what watches them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from recipes.simclr import warmup_cosine, watchers
from ssltyped import INFERRED
from ssltyped.data.digits import DigitsConf, DigitSplit
from ssltyped.data.pipeline import DataConf
from ssltyped.data.splits import EvalSplitConf, TrainSplitConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.parallel import DistributedConf
from ssltyped.evals.linear_probe import LinearProbeConf
from ssltyped.evals.online_knn import KNNConf
from ssltyped.experiment import Experiment, ExperimentConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.optimizers.rate import LRScaling, RateConf
from ssltyped.optimizers.torch_optim import AdamWConf
from ssltyped.transforms.colour import ColorJitterConf, RandomGrayscaleConf
from ssltyped.transforms.geometry import CenterCropConf, RandomResizedCropConf, ResizeConf
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.trunks.resnet import ResNetConf
from ssltyped.types import Callback, Head, Loss, Transform, Trunk, ViewMaker


@dataclasses.dataclass(frozen=True)
class Dials:
    """What to turn for other images: everything else follows, from these or from the images.

    Args:
        image_size: side of a view, in pixels.
        batch_size: images a step and rank.
        epochs: passes over the images.
        width: of the trunk, as a share of the usual one.
    """

    image_size: int = 32
    batch_size: int = 100
    epochs: int = 20
    width: float = 0.25


DIGITS = Dials()


def small(
    dials: Dials,
    *,
    loss: Loss,
    heads: Mapping[str, Head],
    views: ViewMaker,
    trunk: Optional[Trunk] = None,
    more: Sequence[Callback] = (),
    labels: Optional[Path] = None,
    base_lr: float = 4.8e-3,
    weight_decay: float = 1e-4,
) -> Experiment:
    """A method on digits, or on `data.train.path=MY_IMAGES`, and with labels to judge by on `data.val.path=LABELLED`.

    AdamW at base_lr x sqrt(batch / 256), which is 3e-3 for 100 images if not given; a tenth of the run for warmup.
    A ResNet-18 of a quarter of the width, unless another trunk is given.
    """
    return ExperimentConf(
        trunk=trunk or ResNetConf(depth=18, width_multiplier=dials.width),
        heads=dict(heads),
        loss=loss,
        data=DataConf(
            train=TrainSplitConf(
                sample=DigitsConf(split=DigitSplit.TRAIN),
                labels=labels,
                views=views,
                batch_size=dials.batch_size,
                num_workers=1,
            ),
            val=EvalSplitConf(
                sample=DigitsConf(split=DigitSplit.TEST),
                transforms=[ResizeConf(size=dials.image_size), CenterCropConf(size=dials.image_size)],
                num_workers=0,
            ),
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        ),
        optimizer=AdamWConf(rate=RateConf(base_lr=base_lr, lr_scaling=LRScaling.SQRT), weight_decay=weight_decay),
        schedule=warmup_cosine(warmup=0.1),
        epochs=dials.epochs,
        distributed=DistributedConf(),
        checkpoints=CheckpointsConf(),
        callbacks=[*watchers(), KNNConf(at_start=True, enabled=INFERRED), LinearProbeConf(enabled=INFERRED), *more],
    )


def projector() -> dict[str, Head]:
    """Two layers to 64 dimensions."""
    return {"projector": MLPHeadConf(dims=[128, 64], use_relu=True, use_bn=True)}


def augmented(*, size: int, scale: tuple[float, float] = (0.3, 1.0)) -> list[Transform]:
    """Milder crops than for photographs and no flip, so that a digit stays one; any hue for any other."""
    return [
        RandomResizedCropConf(size=size, scale=scale),
        ColorJitterConf(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5, p=0.8),
        RandomGrayscaleConf(p=0.2),
    ]


def crops(count: int, *, size: int, scale: tuple[float, float] = (0.3, 1.0)) -> ViewMaker:
    """So many views."""
    return RepeatViewsConf(num_views=count, transforms=augmented(size=size, scale=scale))

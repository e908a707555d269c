"""SimCLR on ImageNet: Chen et al. 2020, A Simple Framework for Contrastive Learning (arXiv 2002.05709)."""

from __future__ import annotations

from pathlib import Path

from ssltyped.data.pipeline import DataConf
from ssltyped.data.splits import TrainSplitConf
from ssltyped.engine.callbacks.collapse_watch import CollapseWatchConf
from ssltyped.engine.callbacks.metrics_file import MetricsFileConf
from ssltyped.engine.callbacks.nan_guard import NaNGuardConf
from ssltyped.engine.callbacks.progress import ProgressBarConf
from ssltyped.engine.callbacks.tensorboard import TensorBoardConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.parallel import DistributedConf, Precision
from ssltyped.experiment import Experiment, ExperimentConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.optimizers.decay import DecayConf
from ssltyped.optimizers.larc import LARCConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.schedulers.composite import CompositeConf
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.schedulers.curves import LinearConf
from ssltyped.transforms.blur import GaussianBlurConf
from ssltyped.transforms.colour import ColorDistortionConf
from ssltyped.transforms.geometry import HorizontalFlipConf, RandomResizedCropConf
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.trunks.resnet import ResNetConf
from ssltyped.types import Callback, Scheduler, Transform, ViewMaker

IMAGENET_IMAGES = 1_281_167


def two_views(
    *, size: int = 224, scale: tuple[float, float] = (0.08, 1.0), flip: bool = True, blur: bool = True
) -> ViewMaker:
    """SimCLR's augmentation (appendix A): crop, flip, colour distortion, blur; twice for each image."""
    crop: list[Transform] = [RandomResizedCropConf(size=size, scale=scale)]
    flips: list[Transform] = [HorizontalFlipConf()] if flip else []
    blurs: list[Transform] = [GaussianBlurConf()] if blur else []
    return RepeatViewsConf(num_views=2, transforms=[*crop, *flips, ColorDistortionConf(), *blurs])


def warmup_cosine(*, warmup: float) -> Scheduler:
    """Linear warmup over a share of the run, then a cosine to 0 (appendix B.6: 10 epochs of warmup)."""
    return CompositeConf(schedulers=[LinearConf(), CosineConf()], lengths=[warmup, 1.0 - warmup])


def watchers() -> list[Callback]:
    """What every run of ours is watched by."""
    return [ProgressBarConf(), MetricsFileConf(), TensorBoardConf(), NaNGuardConf(), CollapseWatchConf()]


def simclr(
    *,
    nodes: int = 1,
    num_procs: int = 8,
    batch_size: int = 64,
    epochs: int = 100,
    base_lr: float = 0.3,
    temperature: float = 0.1,
    projection_dim: int = 128,
    precision: Precision = Precision.FP32,
) -> Experiment:
    """SimCLR with a ResNet-50 on a folder of ImageNet: `data.train.path=IMAGENET/train`.

    LR 0.3 x batch / 256 with LARC, weight decay 1e-6, 10 epochs of warmup (appendix B.6), projection 2048-128.
    """
    return ExperimentConf(
        trunk=ResNetConf(depth=50),
        heads={"projector": MLPHeadConf(dims=[2048, projection_dim], use_relu=True)},
        loss=SimCLRLossConf(temperature=temperature),
        data=DataConf(
            train=TrainSplitConf(
                path=Path("imagenet/train"),
                num_images=IMAGENET_IMAGES,
                views=two_views(),
                batch_size=batch_size,
                num_workers=5,
            ),
        ),
        optimizer=SGDConf(
            rate=RateConf(base_lr=base_lr), weight_decay=1e-6, decay=DecayConf(norm=True), larc=LARCConf()
        ),
        schedule=warmup_cosine(warmup=min(10 / epochs, 0.1)),
        epochs=epochs,
        precision=precision,
        distributed=DistributedConf(nodes=nodes, num_procs=num_procs),
        checkpoints=CheckpointsConf(every_epochs=1, every_steps=1000),
        callbacks=watchers(),
    )

"""SimCLR on 1,400 images of handwritten digits, in two minutes on a CPU, measured on 397 others by kNN."""

from __future__ import annotations

from recipes.simclr import two_views, warmup_cosine, watchers
from ssltyped.data.digits import DigitsConf, DigitSplit
from ssltyped.data.pipeline import DataConf, EvalSplitConf, TrainSplitConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.parallel import DistributedConf
from ssltyped.evals.online_knn import KNNConf
from ssltyped.experiment import Experiment, ExperimentConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.optimizers.adamw import AdamWConf
from ssltyped.transforms.geometry import CenterCropConf
from ssltyped.trunks.resnet import ResNetConf, Stem


def quickstart(*, epochs: int = 30, batch_size: int = 100) -> Experiment:
    """A quarter-width ResNet-18 for 32 x 32 pixels (SimCLR, appendix B.9); flips are left out: digits are not symmetric."""
    return ExperimentConf(
        trunk=ResNetConf(depth=18, width_multiplier=0.25, stem=Stem.SMALL),
        heads=[MLPHeadConf(dims=[128, 64], use_relu=True)],
        loss=SimCLRLossConf(temperature=0.2),
        data=DataConf(
            train=TrainSplitConf(
                source=DigitsConf(split=DigitSplit.TRAIN),
                views=two_views(size=32, flip=False, blur=False),
                batch_size=batch_size,
            ),
            val=EvalSplitConf(source=DigitsConf(split=DigitSplit.TEST), transforms=[CenterCropConf(size=32)]),
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        ),
        optimizer=AdamWConf(lr=2e-3, weight_decay=1e-4),
        schedule=warmup_cosine(warmup=0.1),
        epochs=epochs,
        distributed=DistributedConf(),
        checkpoints=CheckpointsConf(),
        callbacks=[*watchers(), KNNConf(at_start=True)],
        log_every=14,
        resume="never",
    )


recipe = quickstart()

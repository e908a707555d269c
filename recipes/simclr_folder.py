"""SimCLR on your own images: `python -m ssltyped.run recipes.simclr_folder data.train.path=MY_IMAGES`.

MY_IMAGES is a folder of images, a folder of class folders, or a list file. Sized for one GPU or a CPU: a ResNet-18
at 96 x 96 pixels. With labelled images, watch the representation: `data.val=EvalSplit data.val.path=LABELLED
data.val.transforms=[Resize,CenterCrop] data.val.transforms.0.size=96 data.val.transforms.1.size=96 +callbacks=KNN`.
"""

from __future__ import annotations

from recipes.simclr import two_views, warmup_cosine, watchers
from ssltyped.config import REQUIRED
from ssltyped.data.pipeline import DataConf
from ssltyped.data.splits import TrainSplitConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.parallel import DistributedConf
from ssltyped.experiment import Experiment, ExperimentConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.optimizers.decay import DecayConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.trunks.resnet import ResNetConf


def simclr_folder(*, image_size: int = 96, batch_size: int = 128, epochs: int = 100) -> Experiment:
    """A small SimCLR: LR 0.5 x batch / 256 without LARC, weight decay 1e-4, temperature 0.2 for small batches."""
    return ExperimentConf(
        trunk=ResNetConf(depth=18),
        heads={"projector": MLPHeadConf(dims=[512, 128], use_relu=True)},
        loss=SimCLRLossConf(temperature=0.2),
        data=DataConf(train=TrainSplitConf(path=REQUIRED, views=two_views(size=image_size), batch_size=batch_size)),
        optimizer=SGDConf(rate=RateConf(base_lr=0.5), decay=DecayConf(bias=False)),
        schedule=warmup_cosine(warmup=0.1),
        epochs=epochs,
        distributed=DistributedConf(),
        checkpoints=CheckpointsConf(),
        callbacks=watchers(),
    )


recipe = simclr_folder()

"""Recipes: expressions, and functions that return an `Experiment`."""

from pathlib import Path

from recipes.quickstart import quickstart
from recipes.simclr import simclr, two_views, warmup_cosine, watchers
from recipes.simclr_folder import simclr_folder
from ssltyped.config import REQUIRED
from ssltyped.config.overrides import override
from ssltyped.data.digits import DigitsConf, DigitSplit
from ssltyped.data.pipeline import Data, DataConf
from ssltyped.data.splits import EvalSplitConf, TrainSplitConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.parallel import Device, DistributedConf, Precision
from ssltyped.evals.online_knn import KNNConf
from ssltyped.experiment import Experiment, ExperimentConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.transforms.geometry import CenterCropConf
from ssltyped.trunks.resnet import ResNetConf, Stem
from ssltyped.types import Callback, Head, Optimizer, Scheduler, ViewMaker


def digits(*, epochs: int = 1, temperature: float = 0.2, extra: tuple[Callback, ...] = ()) -> Experiment:
    """A recipe written from its parts."""
    heads: dict[str, Head] = {"projector": MLPHeadConf(dims=[64, 32], feature="flatten")}
    optimizer: Optimizer = AdamWConf(rate=RateConf(lr=1e-3))
    schedule: Scheduler = CosineConf()
    views: ViewMaker = two_views(size=32, flip=False)
    data: Data = DataConf(
        train=TrainSplitConf(source=DigitsConf(), views=views, batch_size=100, num_workers=0),
        val=EvalSplitConf(source=DigitsConf(split=DigitSplit.TEST), transforms=[CenterCropConf(size=32)]),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    return ExperimentConf(
        trunk=ResNetConf(depth=18, width_multiplier=0.25, stem=Stem.SMALL),
        heads=heads,
        loss=SimCLRLossConf(temperature=temperature),
        data=data,
        optimizer=optimizer,
        schedule=schedule,
        epochs=epochs,
        precision=Precision.BF16,
        grad_clip=1,
        distributed=DistributedConf(device=Device.CPU),
        checkpoints=CheckpointsConf(),
        callbacks=[KNNConf(), *watchers(), *extra],
        seed=3,
        output=Path("out"),
        name="digits",
        resume="never",
    )


def to_be_given(*, batch_size: int) -> Data:
    """The user says where the images are."""
    return DataConf(train=TrainSplitConf(path=REQUIRED, views=two_views(), batch_size=batch_size))


def longer(*, temperature: float) -> Experiment:
    """A variant calls another recipe with other arguments."""
    return digits(epochs=10, temperature=temperature)


recipe = digits()
sharp: Experiment = longer(temperature=0.1)
watched = digits(extra=(KNNConf(k=5), KNNConf(k=50)))
sweep: list[Experiment] = [longer(temperature=t) for t in (0.05, 0.1, 0.2)]
paper = simclr()
eight_nodes = simclr(nodes=8)
one_gpu = simclr(num_procs=1, batch_size=256, precision=Precision.BF16)
large = simclr(nodes=4, epochs=800, temperature=0.1, projection_dim=256, base_lr=0.3)
quick = quickstart(epochs=1, batch_size=50)
own_images = override(simclr_folder(image_size=64, batch_size=32, epochs=10), ["data.train.path=images"])
schedule = warmup_cosine(warmup=0.1)
small_views = two_views(size=32, scale=(0.3, 1), blur=False)
callbacks = [*watchers(), KNNConf()]
by_size: dict[str, Experiment] = {"small": quickstart(), "large": simclr()}

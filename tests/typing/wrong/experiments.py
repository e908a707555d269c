"""Experiments and recipes."""

from pathlib import Path

from recipes.quickstart import quickstart
from recipes.simclr import simclr, two_views, warmup_cosine, watchers
from recipes.simclr_folder import simclr_folder
from ssltyped.data.digits import DigitsConf
from ssltyped.data.pipeline import Data, DataConf
from ssltyped.data.splits import TrainSplitConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.parallel import DistributedConf, Precision
from ssltyped.evals.online_knn import KNNConf
from ssltyped.experiment import Experiment, ExperimentConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.trunks.resnet import ResNetConf
from ssltyped.types import Head, Loss, Optimizer, Scheduler, Trunk, ViewMaker

DATA = DataConf(train=TrainSplitConf(source=DigitsConf(), views=two_views(size=32), batch_size=100))


def experiment(
    *,
    trunk: Trunk,
    loss: Loss,
    heads: dict[str, Head],
    optimizer: Optimizer,
    schedule: Scheduler,
    data: Data = DATA,
) -> Experiment:
    world, saves = DistributedConf(), CheckpointsConf()
    ExperimentConf(trunk=trunk, loss=loss)  # E: call-arg, call-arg, call-arg, call-arg, call-arg, call-arg, call-arg
    ExperimentConf(
        trunk=loss,  # E: arg-type
        heads=heads,
        loss=loss,
        data=data,
        optimizer=optimizer,
        schedule=schedule,
        distributed=world,
        checkpoints=saves,
        callbacks=[],
    )
    ExperimentConf(
        trunk=trunk,
        heads=heads["projector"],  # E: arg-type
        loss=SimCLRLossConf,  # E: arg-type
        data=data.train,  # E: arg-type
        optimizer=schedule,  # E: arg-type
        schedule=optimizer,  # E: arg-type
        epochs=1.5,  # E: arg-type
        passes="size",  # E: arg-type
        precision="bf16",  # E: arg-type
        distributed=8,  # E: arg-type
        checkpoints=True,  # E: arg-type
        callbacks=[KNNConf(), schedule],  # E: list-item
        seed="0",  # E: arg-type
        output="runs",  # E: arg-type
        resume=False,  # E: arg-type
    )
    return ExperimentConf(
        trunk=trunk,
        heads={"projector": trunk},  # E: dict-item
        loss=loss,
        data=data,
        optimizer=optimizer,
        schedule=schedule,
        distributed=world,
        checkpoints=saves,
        callbacks=KNNConf(),  # E: arg-type
    )


experiment(
    trunk=MLPHeadConf(dims=[128]),  # E: arg-type
    loss=ResNetConf(),  # E: arg-type
    heads={"projector": SimCLRLossConf()},  # E: dict-item
    optimizer=CosineConf(),  # E: arg-type
    schedule=AdamWConf(rate=RateConf(lr=0.1)),  # E: arg-type
)

# recipes are functions with keyword-only parameters
simclr(8)  # E: call-arg
simclr(node=8)  # E: call-arg
simclr(nodes="8")  # E: arg-type
simclr(batch_size=64.0)  # E: arg-type
simclr(temperature="0.1")  # E: arg-type
simclr(precision="bf16")  # E: arg-type
simclr(precision=Precision.FP64)  # E: attr-defined
simclr(epochs=None)  # E: arg-type
simclr(projection_dim=[128])  # E: arg-type
simclr(loss=SimCLRLossConf())  # E: call-arg
quickstart(epoch=1)  # E: call-arg
quickstart(epochs="30")  # E: arg-type
simclr_folder(path=Path("images"))  # E: call-arg
simclr_folder(image_size=(96, 96))  # E: arg-type
two_views(size=None)  # E: arg-type
two_views(scale=[0.08, 1.0])  # E: arg-type
warmup_cosine()  # E: call-arg
watchers(3)  # E: call-arg

views: ViewMaker = warmup_cosine(warmup=0.1)  # E: assignment


# what a recipe returns
def gives_a_loss() -> Experiment:
    return SimCLRLossConf()  # E: return-value


def gives_the_class() -> Experiment:
    return ExperimentConf  # E: return-value


def gives_nothing() -> Experiment:  # E: return
    simclr()


def gives_parts() -> list[Experiment]:
    return [simclr(), SimCLRLossConf()]  # E: list-item


def says_nothing(*, nodes: int):  # E: no-untyped-def; not pyright, ty, pyrefly
    return simclr(nodes=nodes)


def is_not_typed(nodes) -> Experiment:  # E: no-untyped-def; not pyright, ty, pyrefly
    return simclr(nodes=nodes)


recipe: Loss = simclr()  # E: assignment

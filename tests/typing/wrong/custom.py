# ruff: noqa: B018
"""Components of a user's own, and their misuse."""

from collections.abc import Mapping, Sequence
from typing import Optional, Self

import torch
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.evals.online_knn import KNNConf
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.types import (
    Batch,
    Callback,
    Facts,
    Features,
    Head,
    Image,
    Inference,
    Loss,
    Model,
    Moment,
    Optimizer,
    Problem,
    Random,
    Scheduler,
    Source,
    StepOutput,
    TrainState,
    Transform,
    Trunk,
)


class Mean(Loss):
    def __init__(self, *, weight: float, power: Optional[int] = None) -> None:
        super().__init__()
        self.weight, self.power = weight, power

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        return StepOutput(loss=model(batch.views).of("projector").mean() * self.weight)


MeanConf = config_for(Mean)

MeanConf()  # E: call-arg
MeanConf(weight="1")  # E: arg-type
MeanConf(weight=1.0, power=0.5)  # E: arg-type
MeanConf(weigth=1.0)  # E: call-arg
MeanConf(1.0)  # E: call-arg
mean_head: Head = MeanConf(weight=1.0)  # E: assignment
mean_weight: int = MeanConf(weight=1.0).weight  # E: assignment


class WrongStep(Loss):
    def step(self, model: Model, batch: Batch, moment: Moment) -> Tensor:  # E: override
        return model(batch.views).of("projector").mean()


class NoBatch(Loss):
    def step(self, model: Model) -> StepOutput:  # E: override
        return StepOutput(loss=torch.zeros(()))


class BadStep(Loss):
    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        model(batch)  # E: arg-type
        model.trunk(batch.views)  # E: attr-defined
        batch.images  # E: attr-defined
        batch.label.sum()  # E: union-attr
        batch.views = ()  # E: misc
        StepOutput(model(batch.views).of("projector"), logs=[1.0])  # E: arg-type
        StepOutput(logs={})  # E: call-arg
        return model(batch.views).of("projector")  # E: return-value


class NoStep(Loss):
    pass


NoStep()  # E: abstract
Loss()  # E: abstract


class WrongTrunk(Trunk):
    def feature_dims(self) -> Mapping[str, int]:  # E: override
        return {"x": 1}

    def forward(self, images: Tensor, features: str) -> Features:  # E: override
        return [images]


class OldForward(Trunk):
    @property
    def feature_dims(self) -> Mapping[str, str]:  # E: override
        return {"x": "1"}

    def forward(self, images: Tensor, features: Sequence[str]) -> Tensor:  # E: override
        return images


class NoWidth(Head):
    in_dim = 3

    def forward(self, features: Tensor) -> Tensor:
        return features


NoWidth()  # E: abstract


class Unseeded(Transform):
    def __call__(self, image: Image) -> Image:  # E: override; not pyrefly
        return image


class Shift(Transform):
    def __init__(self, *, by: int) -> None:
        self.by = by

    def __call__(self, image: Image, random: Random) -> Image:
        random.uniform_(0, 1)  # E: attr-defined
        return image.numpy()  # E: return-value; not ty


ShiftConf = config_for(Shift)

RepeatViewsConf(transforms=[ShiftConf(by=1.5)])  # E: arg-type
RepeatViewsConf(transforms=[ShiftConf()])  # E: call-arg
RepeatViewsConf(transforms=[MeanConf(weight=1.0)])  # E: list-item
RepeatViewsConf(transforms=[ShiftConf])  # E: list-item


class Steps(Scheduler):
    def __call__(self, step: int, epoch: int) -> float:  # E: override; not pyrefly
        return 0.0


class Half(Scheduler):
    update = "step"  # E: assignment

    def __call__(self, progress: float) -> float:
        return "half"  # E: return-value


class Eager(Optimizer):
    def __init__(self, params: list[Tensor]) -> None:
        self.lr = 0.1
        self.params = params

    def __call__(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        return module  # E: return-value


class Files(Source):
    def read(self, index: str) -> Image:  # E: override
        raise NotImplementedError

    def name(self, index: int) -> int:  # E: override
        return index


Files()  # E: abstract


class Watcher(Callback):
    def on_step_end(self, state: TrainState, loss: Tensor) -> None:  # E: override
        state.log({"loss": loss})  # E: dict-item
        state.step = 3  # E: misc

    def on_train_start(self, state: TrainState) -> bool:  # E: override
        state.features("train")  # E: arg-type
        state.lr  # E: attr-defined
        return True


KNNConf().on_train_start()  # E: call-arg
watched: Callback = ShiftConf(by=1)  # E: assignment


class Inferring(Head):
    @classmethod
    def infer(cls, config: Self, facts: Facts) -> list[Inference]:
        facts.num_gpus  # E: attr-defined
        facts.num_images + 1  # E: operator
        return ["in_dim"]  # E: list-item

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> str:  # E: override
        return "wrong"


def problem(facts: Facts) -> Problem:
    return "in_dim is missing"  # E: return-value

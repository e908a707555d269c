"""Components of a user's own, of every kind."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Optional, Self

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from recipes.quickstart import quickstart
from ssltyped.config import INFERRED, build, config_for, replaced
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.transforms.geometry import HorizontalFlipConf
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.types import (
    Batch,
    Callback,
    Carry,
    Facts,
    Features,
    Head,
    Image,
    Inference,
    Loss,
    Meter,
    Model,
    Moment,
    Optimizer,
    Problem,
    Random,
    Scheduler,
    Source,
    StepOutput,
    Subset,
    TrainState,
    Transform,
    Trunk,
    ViewMaker,
    Views,
)


class Reduction(Enum):
    MEAN = "mean"
    SUM = "sum"


class Spread(Loss):
    """Says no more than that the views differ."""

    def __init__(
        self,
        *,
        weight: Annotated[float, Gt(0)] = 1.0,
        margin: Optional[float] = None,
        reduction: Reduction = Reduction.MEAN,
        projector: Optional[Head] = None,
    ) -> None:
        super().__init__()
        self.weight, self.margin, self.reduction, self.projector = weight, margin, reduction, projector

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.margin is None:
            yield Inference("margin", 1.0 / facts.global_batch_size, "one image's share")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.num_views < 2:
            yield Problem("", "needs two views")

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        z = model(batch.views).of("projector")
        loss = z.var() if self.reduction is Reduction.MEAN else z.var() * len(z)
        return StepOutput(loss=loss * self.weight, logs={"z": z.detach().mean()}, carry={"z": z.detach()})

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        self.weight *= 1 - moment.progress_after * float(carries[0]["z"].var())


class Pixels(Trunk):
    def __init__(self, *, width: Annotated[int, Gt(0)]) -> None:
        super().__init__()
        self.width = width
        self.layer = nn.LazyLinear(width)

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {"pixels": self.width}

    def forward(self, images: Tensor, features: Sequence[str]) -> Features:
        return [self.layer(images.flatten(1)) for _ in features]


class Scale(Head):
    def __init__(
        self,
        *,
        in_dim: int = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        by: float = 2.0,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.by = in_dim, by

    @property
    def out_dim(self) -> int:
        return self.in_dim

    def forward(self, features: Tensor) -> Tensor:
        return features * self.by


class Dim(Transform):
    def __init__(self, *, most: Annotated[float, Ge(0), Le(1)] = 0.5) -> None:
        self.most = most

    def __call__(self, image: Image, random: Random) -> Image:
        return (image * random.uniform(self.most, 1)).to(torch.uint8)


class Once(ViewMaker):
    def __init__(self, *, transform: Transform, size: int) -> None:
        self.transform, self.size = transform, size

    @property
    def crop_sizes(self) -> Sequence[int]:
        return [self.size]

    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views:
        return Views([self.transform(image, random(0))])


class Noise(Source):
    def __init__(self, *, length: int = 8) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Image:
        return torch.full((3, 8, 8), index, dtype=torch.uint8)

    def name(self, index: int) -> str:
        return f"noise/{index}"

    @property
    def labelled(self) -> bool:
        return False

    def label(self, index: int) -> int:
        raise AssertionError("not labelled")


class Plain(Optimizer):
    def __init__(self, *, lr: Optional[float] = 0.1) -> None:
        self.lr: Optional[float] = lr

    def __call__(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": list(module.parameters()), "lr_scale": 1.0}], lr=self.lr or 0.1)


class Halving(Scheduler):
    def __init__(self, *, value: float = 1.0) -> None:
        self.value = value

    def __call__(self, progress: float) -> float:
        return self.value / 2**progress


class Count(Meter):
    def __init__(self) -> None:
        self.count = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        self.count += len(output)

    def compute(self) -> dict[str, float]:
        return {"count": float(self.count)}

    def reset(self) -> None:
        self.count = 0


class Width(Callback):
    def __init__(self, *, subset: Subset = Subset.VAL) -> None:
        self.subset = subset

    def on_epoch_end(self, state: TrainState) -> None:
        features, labels = state.features(self.subset)
        state.log({"width": features.std().item(), "labels": float(len(labels))})


SpreadConf = config_for(Spread)
PixelsConf = config_for(Pixels)
ScaleConf = config_for(Scale)
DimConf = config_for(Dim)
OnceConf = config_for(Once)
NoiseConf = config_for(Noise)
PlainConf = config_for(Plain)
HalvingConf = config_for(Halving)
CountConf = config_for(Count)
WidthConf = config_for(Width)

# they are used as the library's own are
spread: Loss = SpreadConf()
heavy: Spread = SpreadConf(weight=2, margin=0.5, reduction=Reduction.SUM)
projected = SpreadConf(projector=MLPHeadConf(dims=[8], in_dim=4))
pixels: Trunk = PixelsConf(width=8)
scale: Head = ScaleConf(by=3)
heads: list[Head] = [ScaleConf(), MLPHeadConf(dims=[8])]
views: ViewMaker = RepeatViewsConf(transforms=[DimConf(), HorizontalFlipConf(), DimConf(most=0.9)])
once: ViewMaker = OnceConf(transform=DimConf(), size=8)
source: Source = NoiseConf(length=4)
optimizer: Optimizer = PlainConf(lr=0.5)
schedule: Scheduler = HalvingConf()
meter: Meter = CountConf()
callbacks: list[Callback] = [WidthConf(), WidthConf(subset=Subset.TRAIN)]
weight: float = build(SpreadConf(weight=0.5)).weight


def spread_digits(*, weight: float = 1.0) -> Experiment:
    """A shipped recipe with a loss of one's own."""
    return replaced(quickstart(), {"loss": SpreadConf(weight=weight), "callbacks": callbacks})


recipe = spread_digits()

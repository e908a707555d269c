"""The vocabulary: dimension letters, the values that flow, and the base class of every kind of part.

Dimension letters, used in every shape of the project:

    B images a rank     N images in the world     V views       C channels     H W pixels
    D features          K classes or prototypes   T tokens      L layers

Data flows   index -> Image -> Views -> Batch -> Features -> StepOutput.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Optional, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor, nn

Image: TypeAlias = UInt8[Tensor, "C _ _"]
"""A decoded image, C x H x W: RGB (or N channels), 0 to 255; the memory behind it is H W C, which OpenCV works on."""

Views: TypeAlias = list[Image]
"""The augmented images of one source image; they may differ in size."""

Random: TypeAlias = np.random.Generator
"""The source of randomness that a transform is handed; it has no other."""

Features: TypeAlias = list[Tensor]
"""One tensor a requested feature name, in the requested order."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """What the pipeline yields and a loss sees: V views of the same B images.

    `views[v][b]` is view v of image `index[b]`; views of equal size may share one pass through the trunk.
    """

    views: tuple[Shaped[Tensor, "B C _ _"], ...]
    index: Int64[Tensor, "B"]
    label: Optional[Int64[Tensor, "B"]] = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; the host does not wait for copies from pinned memory."""
        label = None if self.label is None else self.label.to(device, non_blocking=True)
        views = tuple(view.to(device, non_blocking=True) for view in self.views)
        return Batch(views=views, index=self.index.to(device, non_blocking=True), label=label)


@dataclasses.dataclass(frozen=True)
class StepOutput:
    """What one step of a method gives: the loss to differentiate, and what to log beside it (detached scalars)."""

    loss: Float[Tensor, ""]
    logs: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What inference may know about a run. A value is None while it is not known yet (or not known here)."""

    world_size: int
    ranks_per_node: int
    batch_size: int
    accumulation: int
    num_views: int
    crop_sizes: tuple[int, ...]
    feature_dims: Mapping[str, int]
    num_images: Optional[int] = None
    embedding_dim: Optional[int] = None
    labelled: Optional[bool] = None
    lr: Optional[float] = None
    base_lr_of_one_node: Optional[float] = None
    epochs: Optional[int] = None

    @property
    def nodes(self) -> int:
        return self.world_size // self.ranks_per_node

    @property
    def global_batch_size(self) -> int:
        """Images per optimizer step: B x world_size x accumulation."""
        return self.batch_size * self.world_size * self.accumulation

    @property
    def steps_per_epoch(self) -> Optional[int]:
        """Full batches in one pass over the images; the rest of a pass is left out (another rest each epoch)."""
        return None if self.num_images is None else self.num_images // self.global_batch_size


@dataclasses.dataclass(frozen=True)
class Inference:
    """`field` (a path below the part that declares it) should be `value`, because of `rule` (one line)."""

    field: str
    value: object
    rule: str


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something wrong with a config: the path of the field, and one sentence that says what and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Component:
    """A part that a recipe can name. Constructors are keyword-only and take values and other parts.

    `infer` and `problems` are called **with the config in the place of self**, before anything is built:
    they may read the constructor's fields (`self.temperature`), which both have, and nothing else.
    """

    def infer(self, facts: Facts) -> Iterable[Inference]:
        """Values for fields that were left at None. A field that the user set to something else is an error."""
        return ()

    def problems(self, facts: Facts) -> Iterable[Problem]:
        """What cannot work although every field has the right type; paths are relative to this part."""
        return ()


class Trunk(Component, nn.Module, ABC):
    """Images to named features."""

    @property
    @abstractmethod
    def feature_dims(self) -> Mapping[str, int]:
        """The width (channels) of each feature that can be asked for, in network order; the last is the default."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        """The features of these names in this order; nothing past the last one is computed."""


class Head(Component, nn.Module, ABC):
    """A feature to what the loss wants. `in_dim` is the width of the feature, inferred from the trunk."""

    in_dim: Optional[int]

    @property
    @abstractmethod
    def out_dim(self) -> int: ...

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor: ...


@runtime_checkable
class Model(Protocol):
    """Trunk and heads as a method sees them (`ssltyped.model.SSLModel` is the implementation)."""

    def __call__(self, views: Sequence[Tensor]) -> list[Float[Tensor, "VB D"]]:
        """One output a head, rows ordered [all B of view 0; all B of view 1; ...]."""
        ...


class Loss(Component, nn.Module, ABC):
    """A method. It owns all that the method needs beside trunk and heads: queues, centres, teachers, prototypes.

    Contract: W ranks x B images give the loss and the (DDP-averaged) gradients of one process x W*B images.
    """

    @abstractmethod
    def step(self, model: Model, batch: Batch) -> StepOutput:
        """Forward one local batch; collectives go through `ssltyped.distributed`."""

    def on_train_start(self, model: Model) -> None:
        """Before the first step, also after a resume."""

    def on_epoch_start(self, model: Model, epoch: int) -> None:
        """Before the first step of an epoch."""

    def after_backward(self, model: Model, progress: float) -> None:
        """Gradients are there, the optimizer has not stepped."""

    def after_update(self, model: Model, progress: float) -> None:
        """The optimizer has stepped; momentum teachers move here. `progress` in (0, 1]."""


class Transform(Component, ABC):
    """Image to image; uint8 in, uint8 out. All randomness comes from `random`."""

    @abstractmethod
    def __call__(self, image: Image, random: Random) -> Image: ...


class ViewMaker(Component, ABC):
    """Image to views. View v draws from `random(v)` only, so that one view does not move another."""

    @property
    @abstractmethod
    def crop_sizes(self) -> Sequence[int]:
        """The side of each view, one entry a view, in pixels."""

    @abstractmethod
    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views: ...


class UnreadableImageError(Exception):
    """An image that could not be read; `str()` of it says why. The pipeline replaces, counts and reports it."""


class Source(Component, ABC):
    """A set of images by index. Cheap to build and to pickle; holds no list in memory that grows with the images."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Image:
        """The decoded image. Raises `UnreadableImageError` for one that is broken or missing."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call image `index` in a report: its path."""

    @property
    @abstractmethod
    def labelled(self) -> bool: ...

    @abstractmethod
    def label(self, index: int) -> int:
        """The class of image `index`; only asked of a labelled source."""


@dataclasses.dataclass
class ParamGroup:
    """Parameters that share their hyper-parameters; `lr_scale` multiplies the scheduled learning rate."""

    name: str
    params: list[nn.Parameter]
    weight_decay: float
    lr_scale: float = 1.0


class Update(Enum):
    """How often a schedule's value changes: with every optimizer step, or at the start of every epoch."""

    STEP = "step"
    EPOCH = "epoch"


class Scheduler(Component, ABC):
    """A pure function of progress."""

    update: Update = Update.STEP

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The value at `progress` in [0, 1)."""


class Optimizer(Component, ABC):
    """Values in the constructor, parameters in the call. `lr` is the peak that the scheduler works towards."""

    lr: Optional[float]

    @abstractmethod
    def __call__(self, module: nn.Module) -> torch.optim.Optimizer:
        """An optimizer over the module's trainable parameters; each of its groups has `lr_scale`."""


class Meter(Component, ABC):
    """A running measure; the same value on one and on W ranks."""

    @abstractmethod
    def update(self, output: Float[Tensor, "B K"], target: Int64[Tensor, "B"]) -> None: ...

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Over all ranks since `reset`."""

    @abstractmethod
    def reset(self) -> None: ...


class Subset(Enum):
    """Which images an evaluation reads, all of them once, without augmentation."""

    TRAIN = "train"
    VAL = "val"


@runtime_checkable
class TrainState(Protocol):
    """What a callback may see of a running training."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        ...

    @property
    def steps(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def folder(self) -> Path:
        """Where this run writes."""
        ...

    @property
    def model(self) -> Model: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def metrics(self) -> Mapping[str, float]:
        """The newest value of every metric."""
        ...

    def log(self, metrics: Mapping[str, float]) -> None:
        """Record metrics of the current step: they reach `on_metrics` of every callback, and `Run.metrics`."""
        ...

    def features(self, subset: Subset) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "N"]]:
        """What the frozen trunk makes of all images of a subset, and their labels (collective: every rank calls it)."""
        ...

    def capture(self) -> dict[str, object]:
        """All state, on the CPU: what a checkpoint holds."""
        ...


class Callback(Component):
    """Something that watches a run; it never changes what is computed. On rank 0 unless `every_rank`."""

    every_rank: bool = False

    def on_train_start(self, state: TrainState) -> None: ...
    def on_step_start(self, state: TrainState, batch: Batch) -> None: ...
    def on_loss(self, state: TrainState, batch: Batch, output: StepOutput) -> None:
        """After the forward pass, before backward: the weights are still those that gave `output`."""

    def on_step_end(self, state: TrainState) -> None: ...
    def on_metrics(self, state: TrainState, metrics: Mapping[str, float]) -> None: ...
    def on_epoch_end(self, state: TrainState) -> None: ...
    def on_train_end(self, state: TrainState) -> None:
        """Also when the run was interrupted or failed; not when it was killed."""

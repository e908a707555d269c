"""The vocabulary: dimension letters, the values that flow, and the base class of every kind of part.

Dimension letters, used in every shape of the project:

    B images a rank     N images in the world     V views       C channels     H W pixels
    D features          K classes or prototypes   T tokens      L layers

Data flows   index -> Image -> Views -> Batch -> Features -> StepOutput.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Optional, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from torch import Tensor, nn

from ssltyped.config.component import Component as Component
from ssltyped.config.component import Facts as Facts
from ssltyped.config.component import Inference as Inference
from ssltyped.config.component import Problem as Problem
from ssltyped.config.hints import nearest

Image: TypeAlias = UInt8[Tensor, "C _ _"]
"""A decoded image, C x H x W: RGB (or N channels), 0 to 255; the memory behind it is H W C, which OpenCV works on."""

Random: TypeAlias = np.random.Generator
"""The source of randomness that a transform is handed; it has no other."""

Features: TypeAlias = list[Tensor]
"""One tensor a requested feature name, in the requested order."""

Target: TypeAlias = Int64[Tensor, "B"] | Shaped[Tensor, "B K"]
"""The class of each image; or a row each: shares that sum to 1, or 1, 0 and -1 (there, not there, unknown)."""


@dataclasses.dataclass(frozen=True)
class Views:
    """The augmented images of one source image (they may differ in size), and what was decided in making them.

    Args:
        images: one a view
        label: the class of a pretext task, such as which rotation; it takes the place of the image's own
        masks: one a view, which of its patches are masked, or None; empty: no view has a mask
    """

    images: Sequence[Image]
    label: Optional[int] = None
    masks: Sequence[Optional[Bool[np.ndarray, "_ _"]]] = ()


@dataclasses.dataclass(frozen=True)
class Batch:
    """What the pipeline yields and a loss sees: V views of the same B images.

    `views[v][b]` is view v of image `index[b]`; views of equal size may share one pass through the trunk.
    `masks[v][b]` says which of its patches are masked; it is None for a view without a mask, empty if all are.
    """

    views: tuple[Shaped[Tensor, "B C _ _"], ...]
    index: Int64[Tensor, "B"]
    label: Optional[Target] = None
    masks: tuple[Optional[Bool[Tensor, "B _ _"]], ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; the host does not wait for copies from pinned memory."""
        label = None if self.label is None else self.label.to(device, non_blocking=True)
        views = tuple(view.to(device, non_blocking=True) for view in self.views)
        masks = tuple(None if mask is None else mask.to(device, non_blocking=True) for mask in self.masks)
        return Batch(views=views, index=self.index.to(device, non_blocking=True), label=label, masks=masks)


@dataclasses.dataclass(frozen=True)
class StepOutput:
    """What one step of a method gives: the loss to differentiate, and what to log beside it (detached scalars)."""

    loss: Float[Tensor, ""]
    logs: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


class Trunk(Component, nn.Module, ABC):
    """Images to named features."""

    @property
    @abstractmethod
    def feature_dims(self) -> Mapping[str, int]:
        """The width (channels) of each feature that can be asked for, in network order; the last is the default."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        """The features of these names in this order; nothing past the last one is computed."""


class MaskedTrunk(Trunk):
    """A trunk of patches that can be shown a part of each image."""

    @abstractmethod
    def forward(
        self,
        images: Float[Tensor, "B C H W"],
        features: Sequence[str],
        mask: Optional[Bool[Tensor, "B h w"]] = None,
    ) -> Features:
        """As `Trunk.forward`; the patches at the true places of `mask` are masked."""


class Head(Component, nn.Module, ABC):
    """A feature to what the loss wants. `in_dim` is the width of the feature, inferred from the trunk."""

    in_dim: Optional[int]

    @property
    @abstractmethod
    def out_dim(self) -> int:
        """The width of the first output."""

    @property
    def out_dims(self) -> Sequence[int]:
        """The width of each output; most heads have one."""
        return (self.out_dim,)

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor | list[Tensor]:
        """One tensor, or one an output."""


@runtime_checkable
class Model(Protocol):
    """Trunk and heads as a method sees them (`ssltyped.model.model.SSLModel` is the implementation)."""

    def __call__(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        features: Sequence[str] = (),
    ) -> list[Float[Tensor, "VB D"]]:
        """The outputs of all heads, rows ordered [all B of view 0; all B of view 1; ...].

        `masks`: one a view, for a trunk that takes them. `features`: what the heads read, if not what the recipe says.
        """
        ...


class Loss(Component, nn.Module, ABC):
    """A method. It owns all that the method needs beside trunk and heads: queues, centres, teachers, prototypes.

    Contract: W ranks x B images give the loss and the (DDP-averaged) gradients of one process x W*B images.
    State that is not learned moves in `after_update` only, by what the steps since the last update saw.
    """

    hooks = (*Component.hooks, "setup", "step", "on_train_start", "on_epoch_start", "after_backward", "after_update")

    uses_labels: bool = False
    """Whether the method reads the labels of a batch."""

    same_on_all_ranks: tuple[str, ...] = ()
    """Buffers whose names start with one of these are equal on all ranks: a checkpoint holds them once."""

    takes_masks: bool = False
    """Whether the method uses the masks of a batch; making them for one that does not is an error."""

    @abstractmethod
    def step(self, model: Model, batch: Batch) -> StepOutput:
        """Forward one local batch; collectives go through `ssltyped.distributed`."""

    def setup(self, model: Model) -> None:
        """Once, when the model is new and before a checkpoint is read: make what depends on it, such as a teacher."""

    def on_train_start(self, model: Model, batches: Callable[[], Iterator[Batch]]) -> None:
        """Before the first step, also after a resume. `batches()` is this rank's share of one pass over the images."""

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

    @property
    def inputs(self) -> Mapping[str, int]:
        """The inputs of the model and the number of consecutive views that each is; most have one."""
        return {"images": len(self.crop_sizes)}

    @property
    def mask_grids(self) -> Sequence[Optional[tuple[int, int]]]:
        """Rows and columns of the mask of each view, or None; empty if no view has one."""
        return ()

    def prepare(self) -> None:
        """Once, before worker processes are forked: compute or load what all images share."""

    @property
    def num_classes(self) -> Optional[int]:
        """How many labels a pretext task has; None: the views have no label of their own."""
        return None

    @abstractmethod
    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views: ...


class Collator(Component, ABC):
    """A normalized batch on its device to the batch that the method sees, such as mixed images. Drawn from `random`."""

    @abstractmethod
    def __call__(self, batch: Batch, random: Random) -> Batch: ...


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
    def label(self, index: int) -> int | Sequence[int]:
        """The class of image `index`, or a row of 1, 0 and -1 (see `Target`); only asked of a labelled source."""


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
    """Values in the constructor, parameters in the call. The scheduler works towards its `lr`, or `rate.lr`."""

    @property
    def schedules(self) -> Mapping[str, Scheduler]:
        """Those beside the learning rate's: of "weight_decay", and the learning rates of groups, by their names."""
        return {}

    @abstractmethod
    def __call__(self, module: nn.Module) -> torch.optim.Optimizer:
        """Over what is trainable; groups have `lr_scale` and, if there are `schedules`, `schedule` and `wd_scale`."""


class Meter(Component, ABC):
    """A running measure; the same value on one and on W ranks."""

    @abstractmethod
    def update(self, output: Float[Tensor, "B K"], target: Target) -> None: ...

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
        """What the frozen trunk makes of all images of a subset, and their labels, -1 where there are none.

        Collective: every rank calls it.
        """
        ...

    def outputs(self, subset: Subset) -> Iterator[tuple[list[Tensor], Target]]:
        """What the model in eval mode makes of this rank's share of a subset, and the labels, a batch at a time."""
        ...

    def capture(self) -> dict[str, object]:
        """All state, on the CPU: what a checkpoint holds."""
        ...


class Callback(Component):
    """Something that watches a run; it never changes what is computed. On rank 0 unless `every_rank`."""

    hooks = (
        *Component.hooks,
        *("on_train_start", "on_step_start", "on_loss", "on_step_end", "on_metrics", "on_epoch_end", "on_train_end"),
    )
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


def as_named(path: str) -> str:
    """What a user calls a part of the module of model and loss: "trunk.layer1", "heads.projector", "loss.predictor"."""
    return path.removeprefix("model.")


def named(module: nn.Module, name: str) -> nn.Module | nn.Parameter:
    """The module or parameter of this name (see `as_named`). Raises ValueError, with the nearest name, for another."""
    places = (*module.named_modules(remove_duplicate=False), *module.named_parameters(remove_duplicate=False))
    found: dict[str, nn.Module | nn.Parameter] = {as_named(path): part for path, part in places if path}
    if name not in found:
        raise ValueError(f"there is no module and no parameter {name!r}{nearest(name, list(found))}")
    return found[name]


def parameters_of(module: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameters of the part of this name. Raises ValueError, with the nearest name, if there is none."""
    return list(part.parameters()) if isinstance(part := named(module, name), nn.Module) else [part]

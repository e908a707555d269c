"""What watches a training, and what it may see of it."""

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped.config.component import Component
from ssltyped.types.parts import Model
from ssltyped.types.values import Batch, Outputs, StepOutput, Target


class Subset(Enum):
    """Which images an evaluation reads, all of them once, without augmentation."""

    TRAIN = "train"
    VAL = "val"


class Share(Enum):
    """Whose images are meant where the ranks have read some each: those of all of them, or those of this rank."""

    ALL = "all"
    OWN = "own"


@runtime_checkable
class TrainState(Protocol):
    """What a callback may see of a running training."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        ...

    @property
    def images(self) -> int:
        """Images that were passed, each pass over them counted whole: a measure that no change of the batch moves."""
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
    def model(self) -> Model:
        """The one that the method is for, such as a teacher (`Loss.product`)."""
        ...

    @property
    def student(self) -> Model:
        """The one that is trained."""
        ...

    @property
    def device(self) -> torch.device: ...
    @property
    def metrics(self) -> Mapping[str, float]:
        """The newest value of every metric."""
        ...

    def log(self, metrics: Mapping[str, float]) -> None:
        """Record metrics of the current step: they reach `on_metrics` of every callback, and `Run.metrics`."""
        ...

    def features(self, subset: Subset, share: Share = Share.ALL) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "N"]]:
        """What the frozen trunk makes of all images of a subset, and their labels, -1 where there are none.

        Collective: every rank calls it. With `Share.OWN` each gets those that it has read, which fit in its memory
        where those of all ranks might not.
        """
        ...

    def outputs(self, subset: Subset) -> Iterator[tuple[Outputs, Target]]:
        """What the model in eval mode makes of this rank's share of a subset, and the labels, a batch at a time."""
        ...

    def snapshot(self) -> dict[str, object]:
        """All state, on the CPU, on every rank. Collective: every rank calls it."""
        ...


QUIET = "watch_"
"""Metrics of this prefix go to files and plots; a terminal has no room for them."""


def loud(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that a terminal shows."""
    return {name: value for name, value in metrics.items() if not name.startswith(QUIET)}


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Metrics in a line, as a terminal shows them."""
    return "  ".join(f"{name} {value:.4g}" for name, value in loud(metrics).items())


class RunStoppedError(Exception):
    """The run has to end, for a reason that is told in these words alone: no slip of a part, so without a traceback."""


class Callback(Component):
    """Something that watches a run; it never changes what the method computes. On rank 0 unless `every_rank`.

    It may keep state and learn, such as a probe: what it gives as `state_dict` is in every checkpoint, of each rank.
    """

    hooks = (
        *Component.hooks,
        *("on_train_start", "on_step_start", "on_loss", "on_step_end", "on_metrics", "on_epoch_end", "on_train_end"),
    )
    every_rank: bool = False

    enabled: bool = True
    """Whether it runs; one that does not is left out."""

    reads: tuple[str, ...] = ()
    """Features of the trunk that it wants to find in `StepOutput.features`, beside those that the heads read."""

    def state_dict(self) -> Mapping[str, object]:
        """What a checkpoint keeps of it: tensors, numbers, texts, and lists and dicts of these."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over what `state_dict` gave, after `on_train_start`."""

    def on_train_start(self, state: TrainState) -> None: ...
    def on_step_start(self, state: TrainState, batch: Batch) -> None: ...
    def on_loss(self, state: TrainState, batch: Batch, output: StepOutput) -> None:
        """After the forward pass, before backward: the weights are still those that gave `output`."""

    def on_step_end(self, state: TrainState) -> None: ...
    def on_metrics(self, state: TrainState, metrics: Mapping[str, float]) -> None: ...
    def on_epoch_end(self, state: TrainState) -> None: ...
    def on_train_end(self, state: TrainState) -> None:
        """Also when the run was interrupted or failed; not when it was killed."""

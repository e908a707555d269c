"""A running training as a callback sees it, without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.types import Callback, Model, Outputs, Share, Subset, Target


@dataclasses.dataclass
class Watched:
    """A `TrainState` whose numbers a test sets."""

    folder: Path
    step: int = 0
    steps: int = 6
    steps_per_epoch: int = 3
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    batch: int = 8
    callbacks: list[Callback] = dataclasses.field(default_factory=list)
    subsets: dict[Subset, tuple[Tensor, Tensor]] = dataclasses.field(default_factory=dict)

    @property
    def epoch(self) -> int:
        return self.step // self.steps_per_epoch

    @property
    def images(self) -> int:
        return self.batch * self.step

    @property
    def model(self) -> Model:
        raise AssertionError("no callback of ours asks for the model")

    @property
    def student(self) -> Model:
        raise AssertionError("nor for the student")

    def log(self, metrics: Mapping[str, float]) -> None:
        self.metrics.update(metrics)
        for callback in self.callbacks:
            callback.on_metrics(self, metrics)

    def features(self, subset: Subset, share: Share = Share.ALL) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "N"]]:
        features, labels = self.subsets[subset]
        mine = slice(distributed.rank(), None, distributed.world_size()) if share is Share.OWN else slice(None)
        return features[mine], labels[mine]

    def outputs(self, subset: Subset) -> Iterator[tuple[Outputs, Target]]:
        features, labels = self.subsets[subset]
        yield Outputs({"head": (features,)}, {}), labels

    def snapshot(self) -> dict[str, object]:
        return {"step": self.step}

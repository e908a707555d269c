"""Meters that need all scores at once: what they share, and any classification metric of torchmetrics by its name."""

import importlib
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Self, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import config_for, refuse
from ssltyped.config.hints import nearest
from ssltyped.types import Facts, Meter, Problem, Target

Value: TypeAlias = bool | int | float | str | None
"""What an argument of a metric can be."""

CLASSES = ("num_classes", "num_labels")


class GatheredMeter(Meter):
    """A measure of all scores (B K) and targets (B, or B K) since `reset`, over all ranks.

    They are kept on the host, as float32 and whole numbers, and gathered from the ranks, whose batches may differ in
    size, and of which some may have none. torchmetrics's own gathering waits for ever for a rank without images.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[Float[Tensor, "B K"], Target]] = []

    @abstractmethod
    def measure(self, scores: Float[Tensor, "N K"], targets: Int[Tensor, "N *K"]) -> dict[str, float]:
        """The values, of the images of all ranks."""

    def update(self, output: Float[Tensor, "B K"], target: Target) -> None:
        numbers = torch.int64 if target.ndim == 1 else torch.int8
        self._seen.append((output.detach().float().cpu(), target.to(numbers).cpu()))

    def compute(self) -> dict[str, float]:
        return self.measure(*self.gathered())

    def gathered(self) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N *K"]]:
        """All scores and targets, in rank order; every rank calls it."""
        mine = [[scores.shape[1], target.ndim] for scores, target in self._seen[:1]] or [[0, 1]]
        # A rank that has seen no image does not know the number of classes.
        classes, ndim = distributed.gather_no_grad(torch.tensor(mine)).amax(dim=0).tolist()
        nothing = torch.zeros(0, dtype=torch.int64) if ndim == 1 else torch.zeros(0, classes, dtype=torch.int8)
        scores = torch.cat([torch.zeros(0, classes), *(scores for scores, _ in self._seen)])
        targets = torch.cat([nothing, *(target for _, target in self._seen)])
        return distributed.gather_uneven(scores), distributed.gather_uneven(targets)

    def reset(self) -> None:
        self._seen = []


class TorchMetric(GatheredMeter):
    """torchmetrics.classification.<name>(**args) of all scores and targets at once: calibration, AUROC, confusion.

    The metric turns scores outside of [0, 1] into probabilities by itself. `num_classes` (of a Multiclass one) and
    `num_labels` (of a Multilabel one) are the number of scores if they are not given. Logged by its name; one that has
    a value for each class, or each pair, with their numbers: MulticlassConfusionMatrix_0_1. Nothing before any image.
    Units and ties are torchmetrics's own: shares in [0, 1] where the meters of this package give percent, and of equal
    scores MulticlassAccuracy takes the first class for the highest.
    What is here under names of its own has another definition or what torchmetrics has not: `TopKAccuracy`,
    `MeanAveragePrecision`. torchmetrics is imported by recipes that name this, and by no others.

    Raises:
        ValueError: an unknown name, or an argument that the metric does not take.

    Args:
        name: a class of `torchmetrics.classification`, such as MulticlassCalibrationError.
        args: its arguments.
    """

    def __init__(self, *, name: str, args: dict[str, Value] = {}) -> None:  # noqa: B006  # a config shows it
        super().__init__()
        self.name, self.args = name, dict(args)
        refuse(_faults(name, self.args))

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return _faults(config.name, config.args)

    def measure(self, scores: Float[Tensor, "N K"], targets: Int[Tensor, "N *K"]) -> dict[str, float]:
        if not len(scores):
            return {}
        kind = _kinds()[self.name]
        classes = {key: scores.shape[1] for key in CLASSES if key in inspect.signature(kind).parameters}
        found = kind(**{**classes, **self.args})(scores, targets.long())
        if not isinstance(found, Tensor):
            raise ValueError(f"{self.name} gives curves, not numbers: name a metric that gives a tensor")
        return {"_".join([self.name, *map(str, place)]): float(found[place]) for place in np.ndindex(*found.shape)}


def _kinds() -> Mapping[str, Callable[..., Callable[[Tensor, Tensor], object]]]:
    """The metrics of scores and targets alone: of two classes, of several, and of several an image."""
    found = vars(importlib.import_module("torchmetrics.classification"))
    names = [name for name in found if name.startswith(("Binary", "Multiclass", "Multilabel"))]
    return {name: found[name] for name in names if len(inspect.signature(found[name].update).parameters) == 3}


def _faults(name: str, args: Mapping[str, Value]) -> list[Problem]:
    """What torchmetrics would refuse."""
    known = _kinds()
    if name not in known:
        return [Problem("name", f"torchmetrics.classification has no {name!r}{nearest(name, list(known))}")]
    taken = [one for one in inspect.signature(known[name]).parameters if one != "kwargs"]
    return [Problem(f"args.{key}", f"{name} takes no {key!r}{nearest(key, taken)}") for key in args if key not in taken]


TorchMetricConf = config_for(TorchMetric)

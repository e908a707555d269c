"""A value that falls at given epochs."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Optional, Self

from annotated_types import Gt

from ssltyped.config import config_for
from ssltyped.types import Facts, Inference, Problem, Scheduler, Update

DEFAULT_GAMMA = 0.1
# Progress at the start of an epoch is a quotient, which may fall short of the whole epoch by rounding.
ROUNDING = 1e-6


class MultiStep(Scheduler):
    """f(progress) = values[i], i = number of milestones that are <= the epoch floor(progress epochs).

    Without values they are lr gamma^i. gamma 0.1: He et al. 2016 (arXiv 1512.03385), section 3.4.
    Raises ValueError for milestones and values that do not fit together, and when called without milestones, values
    or epochs.

    Args:
        milestones: the epochs, counted from 0, at whose start the value changes; null: at equal distances, the i-th at
            i ceil(epochs / number of values).
        values: one value before each milestone and one after the last; null: from the learning rate and gamma.
        gamma: factor from one value to the next, when values is null.
        epochs: the length of the schedule in epochs; null: that of the run.
        update: how often the value may change.
    """

    def __init__(
        self,
        *,
        milestones: Optional[list[Annotated[int, Gt(0)]]] = None,
        values: Optional[list[float]] = None,
        gamma: Annotated[float, Gt(0)] = DEFAULT_GAMMA,
        epochs: Optional[Annotated[int, Gt(0)]] = None,
        update: Update = Update.EPOCH,
    ) -> None:
        self.milestones, self.values, self.gamma, self.epochs, self.update = milestones, values, gamma, epochs, update
        if faults := list(_faults(milestones, values, gamma)):
            raise ValueError("; ".join(map(str, faults)))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        epochs = facts.epochs if config.epochs is None else config.epochs
        if config.milestones is None and config.values is not None and epochs is not None:
            stride = math.ceil(epochs / len(config.values))
            milestones = [stride * index for index in range(1, len(config.values))]
            yield Inference("milestones", milestones, f"{len(config.values)} values over {epochs} epochs")
        if config.values is None and config.milestones is not None and facts.lr is not None:
            values = [facts.lr * config.gamma**i for i in range(len(config.milestones) + 1)]
            yield Inference("values", values, f"the learning rate of the optimizer x {config.gamma:g}^i")
        if config.epochs is None and facts.epochs is not None:
            yield Inference("epochs", facts.epochs, "the epochs of the run")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.epochs is None:
            yield Problem("epochs", "is not set, and the run has no number of epochs to take it from")
        if config.milestones is None:
            yield Problem("milestones", "give milestones, or values, whose milestones are then at equal distances")
        elif config.values is None:
            yield Problem("values", "is not set, and the optimizer has no learning rate to take it from")
        yield from _faults(config.milestones, config.values, config.gamma)

    def __call__(self, progress: float) -> float:
        if self.milestones is None or self.values is None or self.epochs is None:
            raise ValueError("milestones, values or epochs is None: give them, or resolve the config first")
        epoch = int((progress + ROUNDING) * self.epochs)
        return self.values[bisect_right(self.milestones, epoch)]


def _faults(milestones: Optional[list[int]], values: Optional[list[float]], gamma: float) -> Iterator[Problem]:
    """What the types of the constructor cannot say."""
    if any(a >= b for a, b in pairwise(milestones or [])):
        yield Problem("milestones", f"{milestones} must increase")
    if values is None:
        return
    if not values:
        yield Problem("values", "is empty: give at least one")
    elif milestones is not None and len(values) != len(milestones) + 1:
        count = f"{len(values)} values for {len(milestones)} milestones"
        yield Problem("values", f"{count}: give one before each milestone and one after the last")
    elif gamma != DEFAULT_GAMMA and not all(math.isclose(b, a * gamma, rel_tol=1e-6) for a, b in pairwise(values)):
        yield Problem("gamma", f"{gamma:g} has no effect on values that are given: leave out one of them")


MultiStepConf = config_for(MultiStep)

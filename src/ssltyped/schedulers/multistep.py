"""A value that falls at given epochs."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Self

from annotated_types import Gt, Len

from ssltyped.config import INFERRED, config_for, refuse
from ssltyped.types import Facts, Inference, Problem, Scheduler, Update

DEFAULT_GAMMA = 0.1
# Progress at the start of an epoch is a quotient, which may fall short of the whole epoch by rounding.
ROUNDING = 1e-6


class MultiStep(Scheduler):
    """f(progress) = values[i], i = number of milestones that are <= the epoch floor(progress epochs).

    Without values they are lr gamma^i. gamma 0.1: He et al. 2016 (arXiv 1512.03385), section 3.4.
    Raises ValueError for milestones and values that do not fit together.

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
        milestones: list[Annotated[int, Gt(0)]] = INFERRED,
        values: Annotated[list[float], Len(1)] = INFERRED,
        gamma: Annotated[float, Gt(0)] = DEFAULT_GAMMA,
        epochs: Annotated[int, Gt(0)] = INFERRED,
        update: Update = Update.EPOCH,
    ) -> None:
        self.milestones, self.values, self.gamma, self.epochs, self.update = milestones, values, gamma, epochs, update
        refuse(_faults(milestones, values, gamma))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if facts.epochs is not None:
            yield Inference("epochs", facts.epochs, "the epochs of the run", default=True)
        if config.values is not INFERRED and config.epochs is not INFERRED:
            stride = math.ceil(config.epochs / len(config.values))
            milestones = [stride * index for index in range(1, len(config.values))]
            rule = f"{len(config.values)} values over {config.epochs} epochs"
            yield Inference("milestones", milestones, rule, default=True)
        if config.milestones is not INFERRED and facts.lr is not None:
            values = [facts.lr * config.gamma**i for i in range(len(config.milestones) + 1)]
            rule = f"the learning rate of the optimizer x {config.gamma:g}^i"
            yield Inference("values", values, rule, default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.milestones is INFERRED and config.values is INFERRED:
            yield Problem("milestones", "give milestones, or values, whose milestones are then at equal distances")
        elif config.milestones is not INFERRED and config.values is not INFERRED:
            yield from _faults(config.milestones, config.values, config.gamma)

    def __call__(self, progress: float) -> float:
        epoch = int((progress + ROUNDING) * self.epochs)
        return self.values[bisect_right(self.milestones, epoch)]


def _faults(milestones: list[int], values: list[float], gamma: float) -> Iterator[Problem]:
    """What the types of the constructor cannot say."""
    if any(a >= b for a, b in pairwise(milestones)):
        yield Problem("milestones", f"{milestones} must increase")
    if len(values) != len(milestones) + 1:
        count = f"{len(values)} values for {len(milestones)} milestones"
        yield Problem("values", f"{count}: give one before each milestone and one after the last")
    elif gamma != DEFAULT_GAMMA and not all(math.isclose(b, a * gamma, rel_tol=1e-6) for a, b in pairwise(values)):
        yield Problem("gamma", f"{gamma:g} has no effect on values that are given: leave out one of them")


MultiStepConf = config_for(MultiStep)

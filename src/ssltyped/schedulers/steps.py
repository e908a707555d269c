"""Schedules of a few values: at given epochs, or each for an equal share of the run."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Optional, Self

from annotated_types import Ge, Gt, Len

from ssltyped.config import INFERRED, config_for, refuse
from ssltyped.schedulers.base import ROUNDING, FromLR, part_at
from ssltyped.types import Facts, Inference, Problem, Scheduler, Update

DEFAULT_GAMMA = 0.1


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
    """

    def __init__(
        self,
        *,
        milestones: list[Annotated[int, Gt(0)]] = INFERRED,
        values: Annotated[list[float], Len(1)] = INFERRED,
        gamma: Annotated[float, Gt(0)] = DEFAULT_GAMMA,
        epochs: Annotated[int, Gt(0)] = INFERRED,
        update: Optional[Update] = None,
    ) -> None:
        self.milestones, self.values, self.gamma, self.epochs = milestones, values, gamma, epochs
        self.update = update or Update.EPOCH
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
            yield Inference("values", values, f"the learning rate of the optimizer x {config.gamma:g}^i", default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.milestones is INFERRED and config.values is INFERRED:
            yield Problem("milestones", "give milestones, or values, whose milestones are then at equal distances")
        elif config.milestones is not INFERRED and config.values is not INFERRED:
            yield from _faults(config.milestones, config.values, config.gamma)

    def __call__(self, progress: float) -> float:
        return self.values[bisect_right(self.milestones, int((progress + ROUNDING) * self.epochs))]


def _faults(milestones: list[int], values: list[float], gamma: float) -> Iterator[Problem]:
    """What the types of the constructor cannot say."""
    if any(a >= b for a, b in pairwise(milestones)):
        yield Problem("milestones", f"{milestones} must increase")
    if len(values) != len(milestones) + 1:
        count = f"{len(values)} values for {len(milestones)} milestones"
        yield Problem("values", f"{count}: give one before each milestone and one after the last")
    elif gamma != DEFAULT_GAMMA and not all(math.isclose(b, a * gamma, rel_tol=1e-6) for a, b in pairwise(values)):
        yield Problem("gamma", f"{gamma:g} has no effect on values that are given: leave out one of them")


class PiecewiseConstant(Scheduler):
    """f(progress) = values[floor(progress n)] with n values.

    Args:
        values: the values, each for an equal share of the run.
    """

    def __init__(self, *, values: Annotated[list[float], Len(1)], update: Optional[Update] = None) -> None:
        self.values, self.update = values, update or Update.EPOCH

    def __call__(self, progress: float) -> float:
        return self.values[part_at(progress, len(self.values))]


class Staircase(FromLR):
    """f(progress) = start gamma^floor(progress (num_decays + 1)).

    Args:
        start: the first value; null: the learning rate of the optimizer.
        gamma: factor from one value to the next.
        num_decays: how often the value falls, at equal distances.
    """

    def __init__(
        self,
        *,
        start: float = INFERRED,
        gamma: Annotated[float, Gt(0)],
        num_decays: Annotated[int, Ge(0)],
        update: Optional[Update] = None,
    ) -> None:
        self.start, self.gamma, self.num_decays, self.update = start, gamma, num_decays, update or Update.STEP

    def __call__(self, progress: float) -> float:
        return self.start * self.gamma ** part_at(progress, self.num_decays + 1)


MultiStepConf = config_for(MultiStep)
PiecewiseConstantConf = config_for(PiecewiseConstant)
StaircaseConf = config_for(Staircase)

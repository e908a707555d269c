"""Schedules that change with every step: curves over the progress of a run."""

import math
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Annotated, Self

from annotated_types import Gt, Le, Lt

from ssltyped.config import INFERRED, config_for, refuse
from ssltyped.schedulers.base import ROUNDING, FromLR
from ssltyped.types import Facts, Inference, Problem, Update


class Constant(FromLR):
    """f(progress) = value.

    Args:
        value: the value; null: the learning rate of the optimizer.
        update: has no influence on a constant; every schedule has it.
    """

    at_lr = "value"

    def __init__(self, *, value: float = INFERRED, update: Update = Update.EPOCH) -> None:
        self.value, self.update = value, update

    def __call__(self, progress: float) -> float:
        return self.value


class Linear(FromLR):
    """f(progress) = start + (end - start) progress.

    What is left out is inferred for a warmup (Goyal et al. 2017, arXiv 1706.02677, section 2.2): it ends at the
    learning rate of the optimizer, and starts at the one that would suit the batch of one node.

    Args:
        start: the first value; null: the learning rate for one node's batch, and 0 in a run on one node.
        end: the value that is reached at the end; null: the learning rate of the optimizer.
        update: how often the value changes.
    """

    at_lr = "end"

    def __init__(self, *, start: float = INFERRED, end: float = INFERRED, update: Update = Update.STEP) -> None:
        self.start, self.end, self.update = start, end, update

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        start = facts.base_lr_of_one_node if facts.nodes > 1 else 0.0
        if facts.lr is not None and start is not None:
            rule = "warmup starts at the learning rate of one node's batch; from 0 on one node"
            yield Inference("start", start, rule, default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.start is INFERRED and config.end is not INFERRED:
            need = "the learning rate for one node's batch follows from the optimizer's base_lr, which is not set"
            yield Problem("start", f"is not set, and {need}: give one of them")

    def __call__(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress


class Cosine(FromLR):
    """f(progress) = end + (start - end) (1 + cos(pi progress)) / 2.

    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, without restarts.

    Args:
        start: the first value; null: the learning rate of the optimizer.
        end: the value that is reached at the end.
        update: how often the value changes.
    """

    def __init__(self, *, start: float = INFERRED, end: float = 0.0, update: Update = Update.STEP) -> None:
        self.start, self.end, self.update = start, end, update

    def __call__(self, progress: float) -> float:
        return wave(self.start, self.end, progress)


def wave(start: float, end: float, t: float) -> float:
    """`start` at t = 0, `end` at 1, `start` again at 2."""
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2


class Wave(Enum):
    """Half waves fall and jump back up; full waves fall and rise again as smoothly."""

    HALF = "half"
    FULL = "full"


class CosineWarmRestarts(FromLR):
    """f(p) = end + (peak_k - end) (1 + cos(pi t)) / 2, where t counts the progress p in intervals.

        HALF: t = p / interval - k in [0, 1), k = floor(p / interval): wave k falls from peak_k to end
        FULL: t = p / interval, k = floor((t + 1) / 2): it falls, then wave k rises to peak_k at t = 2 k and falls
        peak_k = start gamma^k, or with adaptive the value at the crest of one cosine from start to end over the run:
                 end + (start - end) (1 + cos(pi c_k)) / 2
        HALF: c_k = k interval.  FULL: c_k = 2 k interval, and c_0 = interval

    With adaptive and FULL the first wave thus starts below `start`; VISSL, whose schedule this is, does so.
    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5. Raises ValueError for gamma beside adaptive.

    Args:
        start: the first peak; null: the learning rate of the optimizer.
        end: the value that each wave falls to.
        interval: share of the run in which the value falls (or rises) once.
        wave: whether it jumps back up or rises.
        gamma: factor from one peak to the next.
        adaptive: the peaks follow one cosine over the run instead.
        update: how often the value changes.
    """

    def __init__(
        self,
        *,
        start: float = INFERRED,
        end: float = 0.0,
        interval: Annotated[float, Gt(0), Le(1)],
        wave: Wave = Wave.HALF,
        gamma: Annotated[float, Gt(0)] = 1.0,
        adaptive: bool = False,
        update: Update = Update.STEP,
    ) -> None:
        self.start, self.end, self.interval, self.wave = start, end, interval, wave
        self.gamma, self.adaptive, self.update = gamma, adaptive, update
        refuse(_faults(gamma, adaptive))

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return _faults(config.gamma, config.adaptive)

    def __call__(self, progress: float) -> float:
        t = progress / self.interval
        if self.wave is Wave.HALF:
            number = math.floor(t + ROUNDING)
            crest, t = number * self.interval, max(0.0, t - number)
        else:
            number = math.floor((t + 1) / 2 + ROUNDING)
            crest = max(2 * number, 1) * self.interval
        peak = wave(self.start, self.end, crest) if self.adaptive else self.start * self.gamma**number
        return wave(peak, self.end, t)


def _faults(gamma: float, adaptive: bool) -> Iterator[Problem]:
    if adaptive and gamma != 1:
        yield Problem("gamma", f"{gamma:g} has no effect on adaptive peaks: leave out one of them")


class Polynomial(FromLR):
    """f(progress) = start (1 - progress)^power.

    Power 0.9 is the "poly" policy of DeepLab (Chen et al. 2016, arXiv 1606.00915), section 4.1; 1 is a line to 0.

    Args:
        start: the first value; null: the learning rate of the optimizer.
        power: the exponent; above 1 the value falls fast at first, below 1 at the end.
        update: how often the value changes.
    """

    def __init__(
        self, *, start: float = INFERRED, power: Annotated[float, Gt(0)] = 0.9, update: Update = Update.STEP
    ) -> None:
        self.start, self.power, self.update = start, power, update

    def __call__(self, progress: float) -> float:
        return self.start * math.pow(1 - progress, self.power)


class InverseSqrt(FromLR):
    """f(progress) = start sqrt(warmup / progress): `start` at progress = warmup, above it before.

    It is meant to follow a warmup of that length in a `Composite`, with the interval FIXED: then it goes on from
    `start` without a jump. At progress 0, where there is no such value, it is start sqrt(warmup). Vaswani et al. 2017
    (arXiv 1706.03762), equation 3.

    Args:
        start: the value at the end of the warmup; null: the learning rate of the optimizer.
        warmup: the share of the run that the warmup before it takes.
        update: how often the value changes.
    """

    def __init__(
        self, *, start: float = INFERRED, warmup: Annotated[float, Gt(0), Lt(1)], update: Update = Update.STEP
    ) -> None:
        self.start, self.warmup, self.update = start, warmup, update

    def __call__(self, progress: float) -> float:
        return self.start * math.sqrt(self.warmup / progress if progress > 0 else self.warmup)


ConstantConf = config_for(Constant)
LinearConf = config_for(Linear)
CosineConf = config_for(Cosine)
CosineWarmRestartsConf = config_for(CosineWarmRestarts)
PolynomialConf = config_for(Polynomial)
InverseSqrtConf = config_for(InverseSqrt)

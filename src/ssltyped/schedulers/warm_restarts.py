"""Cosine waves that start again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Annotated, Optional, Self

from annotated_types import Gt, Le

from ssltyped.config import config_for
from ssltyped.schedulers.cosine import Cosine
from ssltyped.types import Facts, Inference, Problem, Scheduler, Update

# Progress at a restart is a quotient, which may fall short of it by rounding; then the next wave has begun.
ROUNDING = 1e-6


class Wave(Enum):
    """Half waves fall and jump back up; full waves fall and rise again as smoothly."""

    HALF = "half"
    FULL = "full"


class CosineWarmRestarts(Scheduler):
    """f(p) = end + (peak_k - end) (1 + cos(pi t)) / 2, where t counts the progress p in intervals.

        HALF: t = p / interval - k in [0, 1), k = floor(p / interval): wave k falls from peak_k to end
        FULL: t = p / interval, k = floor((t + 1) / 2): it falls, then wave k rises to peak_k at t = 2 k and falls
        peak_k = start gamma^k, or with adaptive the value at the crest of one cosine from start to end over the run:
                 end + (start - end) (1 + cos(pi c_k)) / 2
        HALF: c_k = k interval.  FULL: c_k = 2 k interval, and c_0 = interval

    With adaptive and FULL the first wave thus starts below `start`; VISSL, whose schedule this is, does so.
    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5. Raises ValueError when called without start.

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
        start: Optional[float] = None,
        end: float = 0.0,
        interval: Annotated[float, Gt(0), Le(1)],
        wave: Wave = Wave.HALF,
        gamma: Annotated[float, Gt(0)] = 1.0,
        adaptive: bool = False,
        update: Update = Update.STEP,
    ) -> None:
        self.start, self.end, self.interval, self.wave = start, end, interval, wave
        self.gamma, self.adaptive, self.update = gamma, adaptive, update
        if faults := list(_faults(gamma, adaptive)):
            raise ValueError("; ".join(map(str, faults)))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.start is None and facts.lr is not None:
            yield Inference("start", facts.lr, "the learning rate of the optimizer")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.start is None:
            yield Problem("start", "is not set, and the optimizer has no learning rate to take it from")
        yield from _faults(config.gamma, config.adaptive)

    def __call__(self, progress: float) -> float:
        if self.start is None:
            raise ValueError("start is None: give it, or resolve the config first")
        t = progress / self.interval
        if self.wave is Wave.HALF:
            number = math.floor(t + ROUNDING)
            crest, t = number * self.interval, max(0.0, t - number)
        else:
            number = math.floor((t + 1) / 2 + ROUNDING)
            crest = max(2 * number, 1) * self.interval
        peak = Cosine(start=self.start, end=self.end)(crest) if self.adaptive else self.start * self.gamma**number
        return Cosine(start=peak, end=self.end)(t)


def _faults(gamma: float, adaptive: bool) -> Iterator[Problem]:
    if adaptive and gamma != 1:
        yield Problem("gamma", f"{gamma:g} has no effect on adaptive peaks: leave out one of them")


CosineWarmRestartsConf = config_for(CosineWarmRestarts)

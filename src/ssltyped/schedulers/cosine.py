"""Half a cosine wave, from one value to another, and waves that start again."""

import math
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Annotated, Self

from annotated_types import Gt, Le

from ssltyped.config import INFERRED, config_for, refuse
from ssltyped.schedulers.base import ROUNDING, FromLR
from ssltyped.types import Facts, Problem, Update


class Cosine(FromLR):
    """f(progress) = end + (start - end) (1 + cos(pi progress)) / 2.

    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, without restarts.

    Args:
        start: the first value; null: the learning rate of the optimizer.
        end: the value that is reached at the end.
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


CosineConf = config_for(Cosine)
CosineWarmRestartsConf = config_for(CosineWarmRestarts)

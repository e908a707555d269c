"""Half a cosine wave, from one value to another, and waves that start again."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Annotated, Optional, Self

from annotated_types import Gt, Le

from ssltyped.config import INFERRED, config_for, refuse
from ssltyped.schedulers.base import ROUNDING, FromLR
from ssltyped.types import Facts, Inference, Problem, Update


class Falling(FromLR):
    """A schedule that falls from the learning rate to `end`; one that is to rise says where it starts, too."""

    end: float

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if facts.lr is None or config.end <= facts.lr:
            yield from super().infer(config, facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.lr is not None and getattr(config, cls.at_lr) is INFERRED and config.end > facts.lr:
            message = f"got {config.end:g}, above the learning rate {facts.lr:g} from which it would fall"
            yield Problem("end", f"{message}: set a smaller end, or {cls.at_lr} too, if it is to rise")


class Cosine(Falling):
    """f(progress) = end + (start - end) (1 + cos(pi progress)) / 2.

    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, without restarts.

    Args:
        start: the first value; null: the learning rate of the optimizer.
        end: the value that is reached at the end.
    """

    def __init__(self, *, start: float = INFERRED, end: float = 0.0, update: Optional[Update] = None) -> None:
        self.start, self.end, self.update = start, end, update or Update.STEP

    def __call__(self, progress: float) -> float:
        return wave(self.start, self.end, progress)


def wave(start: float, end: float, t: float) -> float:
    """`start` at t = 0, `end` at 1, `start` again at 2."""
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2


class Wave(Enum):
    """Half waves fall and jump back up; full waves fall and rise again as smoothly."""

    HALF = "half"
    FULL = "full"


class CosineWarmRestarts(Falling):
    """f(p) = end + (peak_k - end) (1 + cos(pi t)) / 2, where t counts the progress p in intervals.

        HALF: t = p / interval - k in [0, 1), k = floor(p / interval): wave k falls from peak_k to end
        FULL: t = p / interval, k = floor((t + 1) / 2): it falls, then wave k rises to peak_k at t = 2 k and falls
        peak_k = start gamma^k, or with adaptive the value at the crest of one cosine from start to end over the run:
                 end + (start - end) (1 + cos(pi c_k)) / 2
        HALF: c_k = k interval.  FULL: c_k = 2 k interval, and c_0 = interval

    With adaptive and FULL the first wave thus starts below `start`; VISSL, whose schedule this is, does so. A start
    that is inferred is then the one with which that wave starts at the learning rate; an interval of 1 has none.
    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5. Raises ValueError for gamma beside adaptive.

    Args:
        start: the first peak; null: from the learning rate of the optimizer.
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
        update: Optional[Update] = None,
    ) -> None:
        self.start, self.end, self.interval, self.wave = start, end, interval, wave
        self.gamma, self.adaptive, self.update = gamma, adaptive, update or Update.STEP
        refuse(_faults(gamma, adaptive))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        for inference in super().infer(config, facts):
            if facts.lr is not None and config.adaptive and config.wave is Wave.FULL:
                crest = wave(1.0, 0.0, config.interval)
                start = config.end + (facts.lr - config.end) / crest if crest > ROUNDING else None
                rule = f"the first wave starts at the learning rate of the optimizer, {facts.lr:g}"
                inference = dataclasses.replace(inference, value=start, rule=rule)
            yield inference

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from _faults(config.gamma, config.adaptive)
        if config.adaptive and config.wave is Wave.FULL and wave(1.0, 0.0, config.interval) <= ROUNDING:
            yield Problem("interval", f"got {config.interval:g}: adaptive full waves start at end then; set less")

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

"""Schedules one after another: a warmup, then a decay."""

from collections.abc import Iterable, Iterator
from enum import Enum
from inspect import signature
from itertools import accumulate
from typing import Annotated, Optional, Self

from annotated_types import Gt, Len

from ssltyped.config import config_for, part_of, refuse
from ssltyped.schedulers.base import ROUNDING
from ssltyped.types import Facts, Problem, Scheduler, Update

# Lengths are written with a few digits: 0.3333 three times is meant to be 1.
SUM_TOLERANCE = 1e-3


class Interval(Enum):
    """The progress that a part sees: 0 to 1 over its own length, or the progress of the whole."""

    RESCALED = "rescaled"
    FIXED = "fixed"


class Composite(Scheduler):
    """Part i acts while the progress p is in [s_i, s_i + lengths[i]), with s_i = sum of the lengths before it.

        f(p) = schedulers[i]((p - s_i) / lengths[i])   if intervals[i] is RESCALED,
               schedulers[i](p)                        if it is FIXED.

    A part that is FIXED joins its curve midway: after a warmup over 10% of the run a fixed cosine starts at
    2.4% below its first value, which is what most of VISSL's recipes do. Parts may be composite again; how often the
    value changes is said by the whole, not by a part. The last part takes what the others leave. Raises ValueError for
    lengths or intervals of another number than schedulers, and for lengths that do not add up to 1 within 0.001.

    Args:
        schedulers: the parts, in order.
        lengths: the share of the run that each takes.
        intervals: the progress that each sees; null: all are rescaled.
    """

    def __init__(
        self,
        *,
        schedulers: Annotated[list[Scheduler], Len(1)],
        lengths: list[Annotated[float, Gt(0)]],
        intervals: Optional[list[Interval]] = None,
        update: Optional[Update] = None,
    ) -> None:
        self.schedulers, self.lengths, self.intervals = schedulers, lengths, intervals
        self.update = update or Update.STEP
        refuse(_faults(len(schedulers), lengths, intervals))

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from _faults(len(config.schedulers), config.lengths, config.intervals)
        whole = getattr(config, "update", None) or Update.STEP
        for number, part in enumerate(config.schedulers):
            own = getattr(part, "update", None)
            if own not in (None, whole, signature(part_of(part).kind).parameters["update"].default):
                ignored = f"got {own.value}, which has no effect on a part of a whole that changes by {whole.value}"
                yield Problem(f"schedulers.{number}.update", f"{ignored}: leave it out (null), or set it for the whole")

    def __call__(self, progress: float) -> float:
        bounds = [0.0, *accumulate(self.lengths[:-1]), 1.0]
        part = sum(progress + ROUNDING > bound for bound in bounds[1:-1])
        if self.intervals is not None and self.intervals[part] is Interval.FIXED:
            return self.schedulers[part](progress)
        start, end = bounds[part], bounds[part + 1]
        return self.schedulers[part](max(0.0, (progress - start) / (end - start)))


def _faults(parts: int, lengths: list[float], intervals: Optional[list[Interval]]) -> Iterator[Problem]:
    """What the types of the constructor cannot say."""
    if parts == 0:
        yield Problem("schedulers", "is empty: give at least one")
    if len(lengths) != parts:
        yield Problem("lengths", f"{len(lengths)} lengths for {parts} schedulers: give one each")
    if abs(sum(lengths) - 1) >= SUM_TOLERANCE:
        yield Problem("lengths", f"{lengths} add up to {sum(lengths):g}: they must add up to 1")
    if intervals is not None and len(intervals) != parts:
        yield Problem("intervals", f"{len(intervals)} intervals for {parts} schedulers: give one each")


CompositeConf = config_for(Composite)

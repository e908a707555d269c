"""One over the root of the progress: what transformers were first trained with after their warmup."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Optional, Self

from annotated_types import Gt, Lt

from ssltyped.config import config_for
from ssltyped.types import Facts, Inference, Problem, Scheduler, Update


class InverseSqrt(Scheduler):
    """f(progress) = start sqrt(warmup / progress): `start` at progress = warmup, above it before.

    It is meant to follow a warmup of that length in a `Composite`, with the interval FIXED: then it goes on from
    `start` without a jump. At progress 0, where there is no such value, it is start sqrt(warmup). Vaswani et al. 2017
    (arXiv 1706.03762), equation 3. Raises ValueError when called without start.

    Args:
        start: the value at the end of the warmup; null: the learning rate of the optimizer.
        warmup: the share of the run that the warmup before it takes.
        update: how often the value changes.
    """

    def __init__(
        self,
        *,
        start: Optional[float] = None,
        warmup: Annotated[float, Gt(0), Lt(1)],
        update: Update = Update.STEP,
    ) -> None:
        self.start, self.warmup, self.update = start, warmup, update

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.start is None and facts.lr is not None:
            yield Inference("start", facts.lr, "the learning rate of the optimizer")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.start is None:
            yield Problem("start", "is not set, and the optimizer has no learning rate to take it from")

    def __call__(self, progress: float) -> float:
        if self.start is None:
            raise ValueError("start is None: give it, or resolve the config first")
        return self.start * math.sqrt(self.warmup / progress if progress > 0 else self.warmup)


InverseSqrtConf = config_for(InverseSqrt)

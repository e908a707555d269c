"""Half a cosine wave, from one value to another."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Optional, Self

from ssltyped.config import config_for
from ssltyped.types import Facts, Inference, Problem, Scheduler, Update


class Cosine(Scheduler):
    """f(progress) = end + (start - end) (1 + cos(pi progress)) / 2. Raises ValueError when called without start.

    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, without restarts.

    Args:
        start: the first value; null: the learning rate of the optimizer.
        end: the value that is reached at the end.
        update: how often the value changes.
    """

    def __init__(self, *, start: Optional[float] = None, end: float = 0.0, update: Update = Update.STEP) -> None:
        self.start, self.end, self.update = start, end, update

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
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2


CosineConf = config_for(Cosine)

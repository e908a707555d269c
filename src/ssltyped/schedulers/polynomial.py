"""A power of what is left of the run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Optional, Self

from annotated_types import Gt

from ssltyped.config import config_for
from ssltyped.types import Facts, Inference, Problem, Scheduler, Update


class Polynomial(Scheduler):
    """f(progress) = start (1 - progress)^power. Raises ValueError when called without start.

    Power 0.9 is the "poly" policy of DeepLab (Chen et al. 2016, arXiv 1606.00915), section 4.1; 1 is a line to 0.

    Args:
        start: the first value; null: the learning rate of the optimizer.
        power: the exponent; above 1 the value falls fast at first, below 1 at the end.
        update: how often the value changes.
    """

    def __init__(
        self, *, start: Optional[float] = None, power: Annotated[float, Gt(0)] = 0.9, update: Update = Update.STEP
    ) -> None:
        self.start, self.power, self.update = start, power, update

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
        return self.start * math.pow(1 - progress, self.power)


PolynomialConf = config_for(Polynomial)

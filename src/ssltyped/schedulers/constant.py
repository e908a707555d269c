"""A value that does not change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional, Self

from ssltyped.config import config_for
from ssltyped.types import Facts, Inference, Problem, Scheduler, Update


class Constant(Scheduler):
    """f(progress) = value. Raises ValueError when called without a value.

    Args:
        value: the value; null: the learning rate of the optimizer.
        update: has no influence on a constant; every schedule has it.
    """

    def __init__(self, *, value: Optional[float] = None, update: Update = Update.EPOCH) -> None:
        self.value, self.update = value, update

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.value is None and facts.lr is not None:
            yield Inference("value", facts.lr, "the learning rate of the optimizer")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.value is None:
            yield Problem("value", "is not set, and the optimizer has no learning rate to take it from")

    def __call__(self, progress: float) -> float:
        if self.value is None:
            raise ValueError("value is None: give it, or resolve the config first")
        return self.value


ConstantConf = config_for(Constant)

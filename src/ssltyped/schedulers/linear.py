"""A straight line: the warmup of a learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional, Self

from ssltyped.config import config_for
from ssltyped.types import Facts, Inference, Problem, Scheduler, Update


class Linear(Scheduler):
    """f(progress) = start + (end - start) progress. Raises ValueError when called without start or end.

    What is left out is inferred for a warmup (Goyal et al. 2017, arXiv 1706.02677, section 2.2): it ends at the
    learning rate of the optimizer, and starts at the one that would suit the batch of one node.

    Args:
        start: the first value; null: the learning rate for one node's batch, and 0 in a run on one node.
        end: the value that is reached at the end; null: the learning rate of the optimizer.
        update: how often the value changes.
    """

    def __init__(
        self, *, start: Optional[float] = None, end: Optional[float] = None, update: Update = Update.STEP
    ) -> None:
        self.start, self.end, self.update = start, end, update

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if facts.lr is None:
            return
        if config.end is None:
            yield Inference("end", facts.lr, "the learning rate of the optimizer")
        start = facts.base_lr_of_one_node if facts.nodes > 1 else 0.0
        if config.start is None and start is not None:
            yield Inference(
                "start", start, "warmup starts at the learning rate of one node's batch; from 0 on one node"
            )

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.end is None:
            yield Problem("end", "is not set, and the optimizer has no learning rate to take it from")
        if config.start is None:
            need = "the learning rate for one node's batch follows from the optimizer's base_lr, which is not set"
            yield Problem("start", f"is not set, and {need}: give one of them")

    def __call__(self, progress: float) -> float:
        if self.start is None or self.end is None:
            raise ValueError("start or end is None: give them, or resolve the config first")
        return self.start + (self.end - self.start) * progress


LinearConf = config_for(Linear)

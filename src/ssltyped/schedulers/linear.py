"""A straight line: the warmup of a learning rate."""

from collections.abc import Iterable
from typing import Self

from ssltyped.config import INFERRED, config_for
from ssltyped.schedulers.base import FromLR
from ssltyped.types import Facts, Inference, Problem, Update


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


LinearConf = config_for(Linear)

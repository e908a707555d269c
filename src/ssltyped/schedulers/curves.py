"""A constant, a line, a power and a root of the progress of a run."""

import math
from collections.abc import Iterable
from typing import Annotated, Optional, Self

from annotated_types import Gt, Lt

from ssltyped.config import INFERRED, config_for
from ssltyped.schedulers.base import FromLR
from ssltyped.types import Facts, Inference, Problem, Update


class Constant(FromLR):
    """f(progress) = value.

    Args:
        value: the value; null: the learning rate of the optimizer.
        update: has no influence on a constant; every schedule has it; null: by epochs.
    """

    at_lr = "value"

    def __init__(self, *, value: float = INFERRED, update: Optional[Update] = None) -> None:
        self.value, self.update = value, update or Update.EPOCH

    def __call__(self, progress: float) -> float:
        return self.value


class Linear(FromLR):
    """f(progress) = start + (end - start) progress.

    What is left out is inferred for a warmup (Goyal et al. 2017, arXiv 1706.02677, section 2.2): it ends at the
    learning rate of the optimizer, and starts at the one that would suit the batch of one node.

    Args:
        start: the first value; null: the learning rate for one node's batch, and 0 in a run on one node.
        end: the value that is reached at the end; null: the learning rate of the optimizer.
    """

    at_lr = "end"

    def __init__(self, *, start: float = INFERRED, end: float = INFERRED, update: Optional[Update] = None) -> None:
        self.start, self.end, self.update = start, end, update or Update.STEP

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


class Polynomial(FromLR):
    """f(progress) = start (1 - progress)^power.

    Power 0.9 is the "poly" policy of DeepLab (Chen et al. 2016, arXiv 1606.00915), section 4.1; 1 is a line to 0.

    Args:
        start: the first value; null: the learning rate of the optimizer.
        power: the exponent; above 1 the value falls fast at first, below 1 at the end.
    """

    def __init__(
        self, *, start: float = INFERRED, power: Annotated[float, Gt(0)] = 0.9, update: Optional[Update] = None
    ) -> None:
        self.start, self.power, self.update = start, power, update or Update.STEP

    def __call__(self, progress: float) -> float:
        return self.start * math.pow(1 - progress, self.power)


class InverseSqrt(FromLR):
    """f(progress) = start sqrt(warmup / progress): `start` at progress = warmup, above it before.

    It is meant to follow a warmup of that length in a `Composite`, with the interval FIXED: then it goes on from
    `start` without a jump. At progress 0, where there is no such value, it is start sqrt(warmup). Vaswani et al. 2017
    (arXiv 1706.03762), equation 3.

    Args:
        start: the value at the end of the warmup; null: the learning rate of the optimizer.
        warmup: the share of the run that the warmup before it takes.
    """

    def __init__(
        self, *, start: float = INFERRED, warmup: Annotated[float, Gt(0), Lt(1)], update: Optional[Update] = None
    ) -> None:
        self.start, self.warmup, self.update = start, warmup, update or Update.STEP

    def __call__(self, progress: float) -> float:
        return self.start * math.sqrt(self.warmup / progress if progress > 0 else self.warmup)


ConstantConf = config_for(Constant)
LinearConf = config_for(Linear)
PolynomialConf = config_for(Polynomial)
InverseSqrtConf = config_for(InverseSqrt)

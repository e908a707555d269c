"""One over the root of the progress: what transformers were first trained with after their warmup."""

import math
from typing import Annotated

from annotated_types import Gt, Lt

from ssltyped.config import INFERRED, config_for
from ssltyped.schedulers.base import FromLR
from ssltyped.types import Update


class InverseSqrt(FromLR):
    """f(progress) = start sqrt(warmup / progress): `start` at progress = warmup, above it before.

    It is meant to follow a warmup of that length in a `Composite`, with the interval FIXED: then it goes on from
    `start` without a jump. At progress 0, where there is no such value, it is start sqrt(warmup). Vaswani et al. 2017
    (arXiv 1706.03762), equation 3.

    Args:
        start: the value at the end of the warmup; null: the learning rate of the optimizer.
        warmup: the share of the run that the warmup before it takes.
        update: how often the value changes.
    """

    def __init__(
        self, *, start: float = INFERRED, warmup: Annotated[float, Gt(0), Lt(1)], update: Update = Update.STEP
    ) -> None:
        self.start, self.warmup, self.update = start, warmup, update

    def __call__(self, progress: float) -> float:
        return self.start * math.sqrt(self.warmup / progress if progress > 0 else self.warmup)


InverseSqrtConf = config_for(InverseSqrt)

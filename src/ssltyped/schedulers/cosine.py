"""Half a cosine wave, from one value to another."""

import math

from ssltyped.config import INFERRED, config_for
from ssltyped.schedulers.base import FromLR
from ssltyped.types import Update


class Cosine(FromLR):
    """f(progress) = end + (start - end) (1 + cos(pi progress)) / 2.

    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, without restarts.

    Args:
        start: the first value; null: the learning rate of the optimizer.
        end: the value that is reached at the end.
        update: how often the value changes.
    """

    def __init__(self, *, start: float = INFERRED, end: float = 0.0, update: Update = Update.STEP) -> None:
        self.start, self.end, self.update = start, end, update

    def __call__(self, progress: float) -> float:
        return wave(self.start, self.end, progress)


def wave(start: float, end: float, t: float) -> float:
    """`start` at t = 0, `end` at 1, `start` again at 2."""
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2


CosineConf = config_for(Cosine)

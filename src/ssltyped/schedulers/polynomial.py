"""A power of what is left of the run."""

import math
from typing import Annotated

from annotated_types import Gt

from ssltyped.config import INFERRED, config_for
from ssltyped.schedulers.base import FromLR
from ssltyped.types import Update


class Polynomial(FromLR):
    """f(progress) = start (1 - progress)^power.

    Power 0.9 is the "poly" policy of DeepLab (Chen et al. 2016, arXiv 1606.00915), section 4.1; 1 is a line to 0.

    Args:
        start: the first value; null: the learning rate of the optimizer.
        power: the exponent; above 1 the value falls fast at first, below 1 at the end.
        update: how often the value changes.
    """

    def __init__(
        self, *, start: float = INFERRED, power: Annotated[float, Gt(0)] = 0.9, update: Update = Update.STEP
    ) -> None:
        self.start, self.power, self.update = start, power, update

    def __call__(self, progress: float) -> float:
        return self.start * math.pow(1 - progress, self.power)


PolynomialConf = config_for(Polynomial)

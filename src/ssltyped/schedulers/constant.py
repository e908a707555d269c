"""A value that does not change."""

from ssltyped.config import INFERRED, config_for
from ssltyped.schedulers.base import FromLR
from ssltyped.types import Update


class Constant(FromLR):
    """f(progress) = value.

    Args:
        value: the value; null: the learning rate of the optimizer.
        update: has no influence on a constant; every schedule has it.
    """

    at_lr = "value"

    def __init__(self, *, value: float = INFERRED, update: Update = Update.EPOCH) -> None:
        self.value, self.update = value, update

    def __call__(self, progress: float) -> float:
        return self.value


ConstantConf = config_for(Constant)

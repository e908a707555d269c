"""Values of equal length, one after another: given ones, or each a fixed factor of the one before."""

from typing import Annotated

from annotated_types import Ge, Gt, Len

from ssltyped.config import INFERRED, config_for
from ssltyped.schedulers.base import FromLR
from ssltyped.types import Scheduler, Update

# Progress at the start of a part is a quotient, which may fall short of it by rounding.
ROUNDING = 1e-6


def part_at(progress: float, parts: int) -> int:
    """The number of the part, of `parts` equally long ones, that `progress` is in."""
    return min(int((progress + ROUNDING) * parts), parts - 1)


class PiecewiseConstant(Scheduler):
    """f(progress) = values[floor(progress n)] with n values.

    `MultiStep` changes at given epochs, and infers its values from the learning rate.

    Args:
        values: the values, each for an equal share of the run.
        update: how often the value may change.
    """

    def __init__(self, *, values: Annotated[list[float], Len(1)], update: Update = Update.EPOCH) -> None:
        self.values, self.update = values, update

    def __call__(self, progress: float) -> float:
        return self.values[part_at(progress, len(self.values))]


class Staircase(FromLR):
    """f(progress) = start gamma^floor(progress (num_decays + 1)).

    Args:
        start: the first value; null: the learning rate of the optimizer.
        gamma: factor from one value to the next.
        num_decays: how often the value falls, at equal distances.
        update: how often the value may change.
    """

    def __init__(
        self,
        *,
        start: float = INFERRED,
        gamma: Annotated[float, Gt(0)],
        num_decays: Annotated[int, Ge(0)],
        update: Update = Update.STEP,
    ) -> None:
        self.start, self.gamma, self.num_decays, self.update = start, gamma, num_decays, update

    def __call__(self, progress: float) -> float:
        return self.start * self.gamma ** part_at(progress, self.num_decays + 1)


PiecewiseConstantConf = config_for(PiecewiseConstant)
StaircaseConf = config_for(Staircase)

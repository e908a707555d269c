"""What schedules share: rounded progress, and for most one value that is the learning rate of the optimizer."""

from collections.abc import Iterable
from typing import ClassVar, Self

from ssltyped.types import Facts, Inference, Scheduler

# Progress at a boundary is a quotient, which may fall short of it by rounding; then the next part has begun.
ROUNDING = 1e-6


def part_at(progress: float, parts: int) -> int:
    """The number of the part, of `parts` equally long ones, that `progress` is in."""
    return min(int((progress + ROUNDING) * parts), parts - 1)


class FromLR(Scheduler):
    """A schedule of which one value is the learning rate of the optimizer, unless it is given."""

    at_lr: ClassVar[str] = "start"
    """The field that has this value."""

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if facts.lr is not None:
            yield Inference(cls.at_lr, facts.lr, "the learning rate of the optimizer", default=True)

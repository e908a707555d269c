"""What most schedules share: one of their values is the learning rate of the optimizer."""

from collections.abc import Iterable
from typing import ClassVar, Self

from ssltyped.types import Facts, Inference, Scheduler


class FromLR(Scheduler):
    """A schedule of which one value is the learning rate of the optimizer, unless it is given."""

    at_lr: ClassVar[str] = "start"
    """The field that has this value."""

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if facts.lr is not None:
            yield Inference(cls.at_lr, facts.lr, "the learning rate of the optimizer", default=True)

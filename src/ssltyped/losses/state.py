"""State that several methods keep."""

from collections.abc import Iterable, Mapping
from typing import Optional

from ssltyped.types import Facts, Inference, Loss


class CountingLoss(Loss):
    """A method that counts what moved, such as rows of a queue: its state dict holds the `counters`.

    They are Python numbers and no buffers, so that reading one waits for no GPU.
    """

    counters: tuple[str, ...]

    def get_extra_state(self) -> Mapping[str, int]:
        return {name: getattr(self, name) for name in self.counters}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        for name in self.counters:
            setattr(self, name, state[name])


def steps_from_epochs(field: str, epochs: Optional[float], facts: Facts) -> Iterable[Inference]:
    """The inference of `field`, a number of optimizer steps that may be given in epochs; neither is 0."""
    if epochs is None:
        yield Inference(field, 0, "not given, in steps or in epochs", default=True)
    elif facts.steps_per_epoch:
        rule = f"{epochs:g} epochs x {facts.steps_per_epoch} steps an epoch"
        source = field.replace("_steps", "_epochs")
        yield Inference(field, round(epochs * facts.steps_per_epoch), rule, source=source)


def warmed_up(start: float, end: float, step: int, steps: int) -> float:
    """`start` at step 0, then in equal parts up to `end` at step `steps` - 1 and after it."""
    if step >= steps - 1:
        return end if steps != 1 or step else start
    return start + (end - start) * step / (steps - 1)

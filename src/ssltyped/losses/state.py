"""State that several methods keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from ssltyped.types import Facts, Inference, Loss, Model


class CountingLoss(Loss):
    """A method that counts, such as how many optimizer steps were taken: its state dict holds the `counters`.

    They are Python numbers and no buffers, so that reading one waits for no GPU. A subclass that has more to do
    after an update calls `super().after_update`.
    """

    counters: tuple[str, ...] = ("steps_done",)
    steps_done: int = 0

    def after_update(self, model: Model, progress: float) -> None:
        self.steps_done += 1

    def get_extra_state(self) -> Mapping[str, int]:
        return {name: getattr(self, name) for name in self.counters}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        for name in self.counters:
            setattr(self, name, state[name])


def steps_from_epochs(field: str, epochs: Optional[float], steps: Optional[int], facts: Facts) -> Iterable[Inference]:
    """The inference of `field`, a number of optimizer steps that may be given in epochs; neither is 0."""
    if epochs is not None and facts.steps_per_epoch:
        rule = f"{epochs:g} epochs x {facts.steps_per_epoch} steps an epoch"
        yield Inference(field, round(epochs * facts.steps_per_epoch), rule)
    elif epochs is None and steps is None:
        yield Inference(field, 0, "not given, in steps or in epochs")


def warmed_up(start: float, end: float, step: int, steps: int) -> float:
    """`start` at step 0, then in equal parts up to `end` at step `steps` - 1 and after it."""
    if step >= steps - 1:
        return end if steps != 1 or step else start
    return start + (end - start) * step / (steps - 1)

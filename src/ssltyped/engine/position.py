"""How far a run is, in images: what of a step's number survives another batch."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch

from ssltyped.engine.checkpoint import read
from ssltyped.types import Facts


@dataclasses.dataclass(frozen=True)
class Position:
    """After `step` steps of `global_batch_size` images each, `steps_per_epoch` of them a pass over `num_images`.

    Args:
        step: optimizer steps done
        steps_per_epoch: of one pass; what is left of a pass is no step
        global_batch_size: images of a step, over all ranks and accumulated batches
        num_images: of one pass
    """

    step: int
    steps_per_epoch: int
    global_batch_size: int
    num_images: int

    @classmethod
    def at_end(cls, steps: int, facts: Facts) -> Self:
        """How far a run of so many steps is when it is done."""
        images = facts.num_images or facts.global_batch_size * steps
        return cls(steps, facts.steps_per_epoch or steps, facts.global_batch_size, images)

    @property
    def epoch(self) -> int:
        """Passes that are done."""
        return self.step // self.steps_per_epoch

    @property
    def images(self) -> int:
        """Images that were passed, each pass counted whole."""
        return self.epoch * self.num_images + self.step % self.steps_per_epoch * self.global_batch_size

    def carried_to(self, run: Self) -> Self:
        """The same passes and images of the begun one, in steps of `run`.

        No image is left out; where its steps do not end there, less than one of them is done again.
        """
        begun = self.step % self.steps_per_epoch * self.global_batch_size // run.global_batch_size
        step = self.epoch * run.steps_per_epoch + min(begun, run.steps_per_epoch)
        return dataclasses.replace(run, step=step)

    def is_counted_as(self, run: Self) -> bool:
        """Whether a step's number means the same in `run`."""
        return dataclasses.replace(self, step=run.step) == run

    def told(self, steps: int, checkpoint: Path) -> str:
        """From where a run of so many steps goes on, or that it is at its end, in words."""
        place = f"step {self.step} of {steps} (after {self.step / self.steps_per_epoch:g} epochs)"
        if self.step == steps:
            return f"nothing is left to train: {checkpoint} is the end of the run, {place}"
        return f"goes on from {place}, {checkpoint}"

    def to_state(self) -> Mapping[str, int]:
        return dataclasses.asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, object], run: Self) -> Self:
        """The position that a checkpoint holds; one of before positions were saved counts as `run` does."""
        step, found = state.get("step"), state.get("position")
        if isinstance(found, dict) and set(found) == {field.name for field in dataclasses.fields(cls)}:
            whole = cls(**found)
            if all(isinstance(value, int) and value >= 0 for value in found.values()) and whole.steps_per_epoch:
                return whole
        return dataclasses.replace(run, step=step if isinstance(step, int) else 0)

    @classmethod
    def of_checkpoint(cls, checkpoint: Path, run: Self) -> Self:
        """As `of_state`, of a checkpoint's folder, whose tensors are not read."""
        return cls.of_state(read(checkpoint / "state.pt", torch.device("cpu"), mmap=True), run)

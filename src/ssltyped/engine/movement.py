"""How far what learns has moved: weights in one step, a teacher behind its student, the rows of a memory."""

import math
from collections.abc import Mapping, Sequence
from typing import Optional

import torch
from torch import Tensor, nn

SAMPLED = 256
"""So many rows of a memory are looked at."""


def weights_of(module: nn.Module, of: Optional[Sequence[str]] = None) -> dict[str, Tensor]:
    """The matrices and kernels that learn, or those of these names; gains and biases of norms say nothing of size."""
    wanted = None if of is None else set(of)
    return {
        name: parameter.detach()
        for name, parameter in module.named_parameters()
        if (parameter.requires_grad and parameter.ndim > 1 if wanted is None else name in wanted)
    }


def distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """The length of the difference of all, as if they were one vector."""
    return length(torch._foreach_sub(list(ours), list(theirs)))


def length(tensors: Sequence[Tensor]) -> Tensor:
    """Of all, as if they were one vector."""
    whole: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))).float())
    return whole


class Movement:
    """Of a student's weights in one step: |after - before| / |before|; and teachers, in units of such a step."""

    def __init__(self) -> None:
        self._before: dict[str, Tensor] = {}

    def start(self, student: nn.Module) -> None:
        """Before a step that will be looked at: its weights are copied."""
        self._before = {name: weight.clone() for name, weight in weights_of(student).items()}

    def finish(self, student: nn.Module, teachers: Sequence[nn.Module]) -> tuple[float, list[float]]:
        """The relative size of the step, and how many such steps each teacher is away from the student.

        nan where there is nothing to compare. The copies are let go.
        """
        before, self._before = self._before, {}
        now = weights_of(student, list(before))
        if not before or now.keys() != before.keys():
            return math.nan, [math.nan for _ in teachers]
        step = distance(list(now.values()), list(before.values()))
        return float(step / length(list(before.values()))), [_behind(now, one, step) for one in teachers]


def _behind(now: Mapping[str, Tensor], teacher: nn.Module, step: Tensor) -> float:
    theirs = weights_of(teacher, list(now))
    if theirs.keys() != now.keys() or not bool(step > 0):
        return math.nan
    return float(distance(list(now.values()), [theirs[name] for name in now]) / step)


class Refreshed:
    """Of the sampled rows of memories, which share was written since the last look, over what it should be."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []
        self._rows: list[int] = []

    def wrote(self, rows: Sequence[int]) -> None:
        """So many rows of each memory are to be written by a batch."""
        self._rows = [sum(pair) for pair in zip(self._rows or [0] * len(rows), rows, strict=True)]

    def look(self, memories: Sequence[Tensor]) -> list[float]:
        """One number a memory: 1 if all was written, 0 if nothing; nan in the first look."""
        seen, rows = self._seen, self._rows
        self._seen, self._rows = [_sample(memory).clone() for memory in memories], []
        if [one.shape for one in seen] != [one.shape for one in self._seen] or len(rows) != len(memories):
            return [math.nan for _ in memories]
        new = [(now != old).any(dim=1).float().mean() for now, old in zip(self._seen, seen, strict=True)]
        shares = [min(1.0, count / len(memory)) for count, memory in zip(rows, memories, strict=True)]
        return [min(1.0, float(found) / share) for found, share in zip(new, shares, strict=True)]

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"seen": list(self._seen), "rows": list(self._rows)}

    def load_state_dict(self, state: Mapping[str, object], device: torch.device) -> None:
        """Take over what `state_dict` gave."""
        seen, rows = state["seen"], state["rows"]
        assert isinstance(seen, list)
        assert isinstance(rows, list)
        self._seen, self._rows = [one.to(device) for one in seen], list(rows)


def _sample(memory: Tensor) -> Tensor:
    """Rows at equal distances."""
    return memory.detach()[:: max(1, len(memory) // SAMPLED)]

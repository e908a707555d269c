"""Stand-ins for models whose outputs are given, to step a loss without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Optional

import torch
from torch import Tensor, nn

from ssltyped.losses.teacher import MomentumTeacher
from ssltyped.types import Batch, Loss, Model, Moment, Outputs, StepOutput

HEAD = "head"
"""What the only head of a stand-in is called."""


class GivenPrototypes(nn.Module):
    """The part of a model that holds prototypes; they stay."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = list(weights)

    def prototype_weights(self) -> Sequence[Tensor]:
        return self.weights

    def normalize_prototypes(self) -> None:
        """Nothing: what was recorded used them as they are."""


class Given(nn.Module):
    """A model that gives these outputs: one list a call, of its only head, or each of a head of its own (`apart`)."""

    def __init__(self, *calls: Sequence[Tensor], prototypes: Sequence[Tensor] = (), apart: bool = False) -> None:
        super().__init__()
        self.calls, self.apart = list(calls), apart
        self.heads = nn.ModuleDict({HEAD: GivenPrototypes(prototypes)})

    def forward(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = MappingProxyType({}),
    ) -> Outputs:
        outputs = tuple(self.calls.pop(0))
        if self.apart:
            return Outputs({str(number): (output,) for number, output in enumerate(outputs)}, {})
        return Outputs({HEAD: outputs}, {})


class GivenTeacher(MomentumTeacher):
    """A momentum teacher that gives these outputs and never moves."""

    def __init__(self, *calls: Sequence[Tensor], prototypes: Sequence[Tensor] = ()) -> None:
        nn.Module.__init__(self)
        self.given = self.model = Given(*calls, prototypes=prototypes)

    def forward(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = MappingProxyType({}),
    ) -> Outputs:
        found: Outputs = self.given(views)
        return found

    @property
    def product(self) -> Model:
        return self.given

    def update(self, student: Model, momentum: float) -> None:
        """Nothing: its outputs are given."""


def at(step: int) -> Moment:
    """A step of a run of which it is the last one."""
    return Moment(step, step + 1, 1)


def moved(loss: Loss, model: Model, batch: Batch, moment: Moment) -> StepOutput:
    """A step with its gradients, and the update after it."""
    output = loss.step(model, batch, moment)
    torch.autograd.backward(output.loss)
    loss.update(model, [output.carry], moment)
    return output


def blank(views: int, images: int, index: Optional[Tensor] = None, masks: Sequence[Tensor] = ()) -> Batch:
    """A batch whose pixels nobody reads."""
    pixels = torch.zeros(images, 1, 1, 1)
    known: tuple[Optional[Tensor], ...] = (*masks, *[None] * (views - len(masks))) if masks else ()
    return Batch(views=(pixels,) * views, index=torch.arange(images) if index is None else index, masks=known)


def leaf(x: Tensor) -> Tensor:
    """A copy that collects its gradient."""
    return x.clone().requires_grad_()


def grad_of(x: Tensor) -> Tensor:
    """The gradient; zeros if none has come."""
    return torch.zeros_like(x) if x.grad is None else x.grad

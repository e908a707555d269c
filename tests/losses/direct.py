"""A loss on embeddings that a test gives: the model is a matrix, most often the identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import torch
from losses.proofs import HEAD, NOTHING, at
from torch import Tensor, nn

from ssltyped.types import Batch, Loss, Outputs


class MatrixModel(nn.Module):
    """Embeddings (V B, D) = views @ weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = NOTHING,
    ) -> Outputs:
        return Outputs({HEAD: (torch.cat([view.flatten(1) for view in views]) @ self.weight,)}, {})


class Outcome(NamedTuple):
    """The loss, the gradient of each view (B, D), and the gradient of the weight; all on this rank."""

    loss: Tensor
    views: list[Tensor]
    weight: Tensor


def outcome(loss: Loss, views: Sequence[Tensor], weight: Tensor) -> Outcome:
    """One step of `loss` on the views (B, D) of this rank."""
    leaves = [view.clone().requires_grad_() for view in views]
    model = MatrixModel(weight)
    output = loss.step(model, batch_of(leaves), at(0))
    assert not any(value.requires_grad for value in output.logs.values()), "logs must be detached"
    torch.autograd.backward(output.loss)
    assert model.weight.grad is not None
    grads = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves]
    return Outcome(output.loss.detach(), grads, model.weight.grad)


def batch_of(views: Sequence[Tensor]) -> Batch:
    return Batch(views=tuple(view[:, :, None, None] for view in views), index=torch.arange(len(views[0])))

"""What every loss has to prove; `test_proofs.py` runs it, and a new loss joins its list with one line.

The model of the proofs is a matrix: view v (B, D, 1, 1) gives the embeddings v @ weight, so that the gradients of a
weight (which DDP averages) and of every view can be compared. With the identity it hands the views through.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.types import Batch, Loss

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclasses.dataclass(frozen=True)
class Proof:
    """A loss and what it is compared with.

    Args:
        name: the topic of its golden file, `tests/golden/losses_<name>`.
        make: the loss's class, or a module-level function that makes it from the parameters of a golden case.
        slow: the paper's equation in plain loops, from the V views (N, D) of the world's N images, for the defaults.
        num_views: V.
    """

    name: str
    make: Callable[..., Loss]
    slow: Callable[[Sequence[Tensor]], Tensor]
    num_views: int = 2

    def views(self, images: int = 8, dim: int = 5) -> list[Tensor]:
        """V x (N, D) in float64, the same in every call."""
        generator = torch.Generator().manual_seed(3)
        return [torch.randn(images, dim, generator=generator, dtype=torch.float64) for _ in range(self.num_views)]

    def golden(self) -> list[Golden]:
        path = GOLDEN / f"losses_{self.name}"
        arrays = np.load(path.with_suffix(".npz"))
        cases = json.loads(path.with_suffix(".json").read_text())["cases"]
        return [Golden.of(case, {key: torch.from_numpy(arrays[key]) for key in arrays}) for case in cases]


class Golden(NamedTuple):
    """One recorded case: a tensor a rank. Rows of `output` are [all of view 0; all of view 1; ...]."""

    id: str
    params: dict[str, float]
    rtol: float
    atol: float
    output: list[Tensor]
    loss: list[Tensor]
    grad_output: list[Tensor]

    @classmethod
    def of(cls, case: dict[str, object], arrays: dict[str, Tensor]) -> Golden:
        name, world, params = case["id"], case["world_size"], case["params"]
        rtol, atol = case["rtol"], case["atol"]
        assert isinstance(world, int)
        assert isinstance(params, dict)
        assert isinstance(rtol, float)
        assert isinstance(atol, float)
        ranks = {
            key: [arrays[f"{name}/{rank}/{key}"] for rank in range(world)] for key in ("output", "loss", "grad_output")
        }
        return cls(str(name), params, rtol, atol, ranks["output"], ranks["loss"], ranks["grad_output"])


class MatrixModel(nn.Module):
    """Embeddings (V B, D) = views @ weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(
        self, views: Sequence[Tensor], *, masks: Sequence[Optional[Tensor]] = (), features: Sequence[str] = ()
    ) -> list[Tensor]:
        return [torch.cat([view.flatten(1) for view in views]) @ self.weight]


class Outcome(NamedTuple):
    """The loss, the gradient of each view (B, D), and the gradient of the weight; all on this rank."""

    loss: Tensor
    views: list[Tensor]
    weight: Tensor


def outcome(loss: Loss, views: Sequence[Tensor], weight: Tensor) -> Outcome:
    """One step of `loss` on the views (B, D) of this rank."""
    leaves = [view.clone().requires_grad_() for view in views]
    model = MatrixModel(weight)
    output = loss.step(model, batch_of(leaves))
    assert not any(value.requires_grad for value in output.logs.values()), "logs must be detached"
    torch.autograd.backward(output.loss)
    assert model.weight.grad is not None
    grads = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves]
    return Outcome(output.loss.detach(), grads, model.weight.grad)


def batch_of(views: Sequence[Tensor]) -> Batch:
    return Batch(views=tuple(view[:, :, None, None] for view in views), index=torch.arange(len(views[0])))


def start_weight(dim: int) -> Tensor:
    return (
        torch.eye(dim, dtype=torch.float64) + 0.1 * torch.arange(dim * dim, dtype=torch.float64).reshape(dim, dim).sin()
    )


def on_rank_golden(proof: Proof, case: Golden) -> Outcome:
    output = case.output[distributed.rank()]
    views = output.chunk(proof.num_views)
    return outcome(proof.make(**case.params), views, torch.eye(output.shape[1]))


def on_rank(proof: Proof, views: Sequence[Tensor]) -> Outcome:
    """This rank's images; loss and weight gradient are averaged over ranks, as DDP does."""
    own = [view.chunk(distributed.world_size())[distributed.rank()] for view in views]
    result = outcome(proof.make().double(), own, start_weight(views[0].shape[1]))
    mean = distributed.all_reduce_mean
    return Outcome(mean(result.loss), result.views, mean(result.weight))


class Training:
    """A few optimizer steps of model and loss, which can be saved and loaded at any of them."""

    def __init__(self, proof: Proof) -> None:
        self.views = proof.views()
        self.model = MatrixModel(start_weight(self.views[0].shape[1]))
        self.loss = proof.make().double()
        parameters = [*self.model.parameters(), *self.loss.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        self.loss.on_train_start(self.model, lambda: iter(()))

    def step(self, number: int) -> Tensor:
        torch.manual_seed(number)
        batch = batch_of([view.roll(number, 1) for view in self.views])
        self.optimizer.zero_grad()
        value = self.loss.step(self.model, batch).loss
        torch.autograd.backward(value)
        self.loss.after_backward(self.model, number / 10)
        self.optimizer.step()
        self.loss.after_update(self.model, (number + 1) / 10)
        return value.detach()

    def save(self) -> bytes:
        buffer = io.BytesIO()
        torch.save([self.model.state_dict(), self.loss.state_dict(), self.optimizer.state_dict()], buffer)
        return buffer.getvalue()

    def load(self, saved: bytes) -> None:
        model, loss, optimizer = torch.load(io.BytesIO(saved), weights_only=True)
        self.model.load_state_dict(model)
        self.loss.load_state_dict(loss)
        self.optimizer.load_state_dict(optimizer)

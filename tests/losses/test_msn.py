"""MSN beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import math

import pytest
import torch
from losses.direct import MatrixModel, batch_of
from losses.proofs import HEAD, at, waves
from losses.told import inferred, problems

from ssltyped.losses.msn import MSNLoss, MSNLossConf


def test_the_entropy_is_that_of_the_mean_assignment() -> None:
    loss = MSNLoss(head=HEAD, embedding_dim=4, num_prototypes=4, temperature=0.01)
    with torch.no_grad():
        loss.prototypes.copy_(torch.eye(4))
    model = MatrixModel(torch.eye(4))
    loss.setup(model)
    spread, same = torch.eye(4), torch.eye(4)[:1].expand(4, 4)
    assert loss.step(model, batch_of([spread, spread]), at(0)).logs["entropy"].item() == pytest.approx(
        math.log(4), abs=1e-4
    )
    assert loss.step(model, batch_of([same, same]), at(0)).logs["entropy"].item() == pytest.approx(0.0, abs=1e-4)


def test_only_anchors_and_prototypes_take_a_gradient() -> None:
    loss = MSNLoss(head=HEAD, embedding_dim=5, num_prototypes=6)
    model = MatrixModel(torch.eye(5))
    loss.setup(model)
    views = [waves(4, 5).float().requires_grad_(), (waves(4, 5) + 1).float().requires_grad_()]
    torch.autograd.backward(loss.step(model, batch_of(views), at(0)).loss)
    assert views[0].grad is None, "the target view"
    assert views[1].grad is not None
    assert loss.prototypes.grad is not None
    assert all(parameter.grad is None for parameter in loss.teacher.parameters())


def test_what_it_infers_and_refuses() -> None:
    assert inferred(MSNLossConf(), outputs=(256,)) == {"embedding_dim": 256}
    assert "a target and at least one anchor view; the data makes 1" in problems(MSNLossConf(), num_views=1)
    assert "view 0, which the teacher sees whole; the data masks it" in problems(
        MSNLossConf(), mask_grids=((2, 2), None)
    )
    assert problems(MSNLossConf(), mask_grids=(None, (2, 2))) == ""
    with pytest.raises(ValueError, match="the batch has 1"):
        MSNLoss(head=HEAD, embedding_dim=5).step(MatrixModel(torch.eye(5)), batch_of([waves(4, 5)]), at(0))

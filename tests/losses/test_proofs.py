"""What must be true of every loss. A new one joins with a line in PROOFS and its loops in `slow.py`."""

from __future__ import annotations

import pytest
import torch
from losses import slow
from losses.proofs import Golden, Outcome, Proof, Training, on_rank, on_rank_golden, outcome, start_weight
from ranks import run_on_ranks
from torch import Tensor

from ssltyped.losses.simclr import SimCLRLoss

PROOFS = [
    Proof("simclr", SimCLRLoss, slow.simclr),
]
GOLDEN = [pytest.param(proof, case, id=case.id) for proof in PROOFS for case in proof.golden()]
every_loss = pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.name)


def _close(got: Tensor, want: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def _finite(result: Outcome) -> None:
    assert result.loss.isfinite()
    assert all(grad.isfinite().all() for grad in (*result.views, result.weight))


@pytest.mark.parametrize("proof, case", GOLDEN)
def test_golden_numbers(proof: Proof, case: Golden) -> None:
    if len(case.output) == 1:
        results = [on_rank_golden(proof, case)]
    else:
        results = run_on_ranks(on_rank_golden, len(case.output), proof, case)
    for result, loss, grad in zip(results, case.loss, case.grad_output, strict=True):
        torch.testing.assert_close(result.loss, loss, rtol=case.rtol, atol=case.atol, check_dtype=False)
        torch.testing.assert_close(torch.cat(result.views), grad, rtol=case.rtol, atol=case.atol)


@every_loss
def test_the_paper_in_plain_loops(proof: Proof) -> None:
    views = proof.views()
    leaves = [view.clone().requires_grad_() for view in views]
    want = proof.slow(leaves)
    grads = torch.autograd.grad(want, leaves)
    got = outcome(proof.make().double(), views, torch.eye(views[0].shape[1], dtype=torch.float64))
    _close(got.loss, want.detach())
    for ours, theirs in zip(got.views, grads, strict=True):
        _close(ours, theirs)


@every_loss
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_give_the_loss_and_gradients_of_one_process(proof: Proof, world: int) -> None:
    views = proof.views()
    want = outcome(proof.make().double(), views, start_weight(views[0].shape[1]))
    assert want.weight.abs().max() > 1e-3, "nothing to compare"
    results = run_on_ranks(on_rank, world, proof, views)
    for result in results:
        _close(result.loss, want.loss)
        _close(result.weight, want.weight)
    for number, grad in enumerate(want.views):  # of the sum of the ranks' losses, W times the mean
        _close(torch.cat([result.views[number] for result in results]) / world, grad)


@every_loss
def test_saved_and_loaded_goes_on_bitwise(proof: Proof) -> None:
    straight, first, second = Training(proof), Training(proof), Training(proof)
    values = [straight.step(number) for number in range(4)]
    assert torch.equal(first.step(0), values[0])
    assert torch.equal(first.step(1), values[1])
    second.load(first.save())
    assert [float(second.step(number)) for number in (2, 3)] == [float(value) for value in values[2:]]
    assert torch.equal(second.model.weight, straight.model.weight)
    assert values[0] != values[3]


@every_loss
def test_under_bfloat16_autocast_the_loss_is_float32(proof: Proof) -> None:
    views = [view.float() for view in proof.views()]
    weight = start_weight(views[0].shape[1]).float()
    want = outcome(proof.make(), views, weight)
    with torch.autocast("cpu", torch.bfloat16):
        got = outcome(proof.make(), views, weight)
    assert got.loss.dtype == torch.float32
    _close(got.loss, want.loss, 0.05)
    _finite(got)


@every_loss
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e15])
def test_equal_and_huge_embeddings_are_finite(proof: Proof, scale: float) -> None:
    views = [view.float() for view in proof.views()]
    weight = torch.eye(views[0].shape[1])
    _finite(outcome(proof.make(), [torch.ones_like(view) * scale for view in views], weight))
    _finite(outcome(proof.make(), [view * scale for view in views], weight))

"""Balanced assignments: what Sinkhorn's iteration must give."""

from __future__ import annotations

import math

import pytest
import torch
from losses.proofs import waves
from losses.slow_clusters import sinkhorn as slow_sinkhorn
from ranks import run_on_ranks
from torch import Tensor

from ssltyped import distributed
from ssltyped.losses.sinkhorn import assign, hard, sinkhorn

SCORES = waves(12, 5)


def test_as_in_plain_loops() -> None:
    want = torch.tensor(slow_sinkhorn(list(SCORES), 0.2, 3), dtype=torch.float64)
    torch.testing.assert_close(assign(SCORES, epsilon=0.2, num_iters=3), want, rtol=1e-12, atol=1e-12)


def test_many_iterations_balance_the_prototypes() -> None:
    q = assign(SCORES, epsilon=0.2, num_iters=300)
    torch.testing.assert_close(q.sum(dim=0), torch.full((5,), 12 / 5, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(12, dtype=torch.float64))


def test_shares_may_follow_a_power_law() -> None:
    q = assign(SCORES, epsilon=0.2, num_iters=300, power_law=1.0)
    shares = torch.tensor([1 / k for k in range(1, 6)], dtype=torch.float64)
    torch.testing.assert_close(q.sum(dim=0), 12 * shares / shares.sum(), rtol=1e-9, atol=1e-9)


def test_without_iterations_it_is_a_softmax() -> None:
    torch.testing.assert_close(assign(SCORES, epsilon=0.2, num_iters=0), (SCORES / 0.2).softmax(dim=1))


@pytest.mark.parametrize("shift", [1e3, -1e3])
def test_a_constant_in_all_scores_changes_nothing(shift: float) -> None:
    want = assign(SCORES, epsilon=0.2, num_iters=3)
    torch.testing.assert_close(assign(SCORES + shift, epsilon=0.2, num_iters=3), want, rtol=1e-9, atol=1e-9)


def test_scores_of_any_size_give_distributions() -> None:
    for scores in (SCORES.float() * 1e6, torch.zeros(4, 3), torch.full((4, 3), -1e30)):
        q = assign(scores, epsilon=0.05, num_iters=3)
        torch.testing.assert_close(q.sum(dim=1), torch.ones(len(q)))


def test_an_unwanted_prototype_and_an_infinite_entry() -> None:
    log_q = SCORES.T.clone()
    log_q[2] = -math.inf
    log_q[0, 0] = math.inf
    q = sinkhorn(log_q, num_iters=3)
    assert q.isfinite().all()
    assert (q[:, 2] > 0).all(), "it gets its share"


def test_hard_takes_the_largest() -> None:
    q = hard(assign(SCORES, epsilon=0.2, num_iters=3))
    assert torch.equal(q.sum(dim=1), torch.ones(12, dtype=torch.float64))
    assert torch.equal(q.argmax(dim=1), assign(SCORES, epsilon=0.2, num_iters=3).argmax(dim=1))


def own(double: bool) -> Tensor:
    mine = SCORES.chunk(distributed.world_size())[distributed.rank()]
    return assign(mine.float() if double else mine, epsilon=0.2, num_iters=3, double_precision=double)


def test_ranks_balance_together() -> None:
    want = assign(SCORES, epsilon=0.2, num_iters=3)
    torch.testing.assert_close(torch.cat(run_on_ranks(own, 2, False)), want, rtol=1e-12, atol=1e-12)


def test_double_precision_gives_the_dtype_of_the_scores() -> None:
    assert own(True).dtype == torch.float32

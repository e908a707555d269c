"""Balanced assignments (what Sinkhorn's iteration must give), and spherical k-means."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from losses.proofs import waves
from losses.slow_clusters import sinkhorn as slow_sinkhorn
from ranks import run_on_ranks
from torch import Tensor

from ssltyped import distributed
from ssltyped.losses import assignments
from ssltyped.losses.assignments import assign, hard, nearest, sinkhorn, spherical_kmeans

SCORES = waves(12, 5)


def test_as_in_plain_loops_of_sinkhorn() -> None:
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


ROWS = F.normalize(waves(24, 4), dim=1)


def slow(rows: Tensor, centroids: Tensor, rounds: int) -> tuple[Tensor, list[int]]:
    centres = [c.clone() for c in centroids]

    def owner_of_each() -> list[int]:
        return [max(range(len(centres)), key=lambda k: float(row @ centres[k])) for row in rows]

    for _ in range(rounds):
        owners = owner_of_each()
        for k in range(len(centres)):
            own = [row for row, owner in zip(rows, owners, strict=True) if owner == k]
            if own:
                total = torch.stack(own).sum(dim=0)
                centres[k] = total / total.norm()
    return torch.stack(centres), owner_of_each()


def test_as_in_plain_loops_of_kmeans() -> None:
    want, owners = slow(ROWS, ROWS[:5], 7)
    got, found = spherical_kmeans(ROWS, ROWS[:5], num_iters=7)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert found.tolist() == owners


def test_a_centroid_that_nobody_is_near_stays() -> None:
    rows = F.normalize(torch.rand(8, 3, dtype=torch.float64) + 0.1, dim=1)
    far = torch.tensor([[-1.0, 0.0, 0.0]], dtype=torch.float64)
    got, found = spherical_kmeans(rows, torch.cat([rows[:1], far]), num_iters=3)
    torch.testing.assert_close(got[1:], far)
    assert found.tolist() == [0] * 8


def test_separate_groups_are_found() -> None:
    centres = F.normalize(torch.eye(3, dtype=torch.float64) + 0.01, dim=1)
    rows = F.normalize(centres.repeat(10, 1) + 0.05 * waves(30, 3), dim=1)
    _, found = spherical_kmeans(rows, rows[:3], num_iters=5)
    assert found.reshape(10, 3).eq(torch.arange(3)).all()


def on_rank() -> tuple[Tensor, Tensor]:
    mine = ROWS.chunk(distributed.world_size())[distributed.rank()]
    return spherical_kmeans(mine, ROWS[:5], num_iters=7)


def test_ranks_share_the_centroids() -> None:
    want, found = spherical_kmeans(ROWS, ROWS[:5], num_iters=7)
    results = run_on_ranks(on_rank, 2)
    for centroids, _ in results:
        torch.testing.assert_close(centroids, want, rtol=1e-12, atol=1e-12)
    assert torch.equal(torch.cat([own for _, own in results]), found)


@pytest.mark.parametrize("rows_at_a_time", [0, 1, 7, 24, 100])
def test_in_parts_as_at_once(rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when not even one row's products fit."""
    centroids = F.normalize(waves(24, 4) + 0.3, dim=1)[:20]
    scores = ROWS @ centroids.T
    centres, owners = spherical_kmeans(ROWS, centroids, num_iters=4)
    monkeypatch.setattr(assignments, "SCORES_BYTES", 20 * 8 * rows_at_a_time + 3)
    seen: list[int] = []
    matmul = Tensor.__matmul__

    def recorded(x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(x))
        return matmul(x, y)

    monkeypatch.setattr(Tensor, "__matmul__", recorded)
    index, similarity = nearest(ROWS, centroids)
    assert max(seen) == min(24, max(1, rows_at_a_time))
    assert sum(seen) == 24
    torch.testing.assert_close(similarity, scores.amax(dim=1), rtol=1e-12, atol=1e-12)
    assert torch.equal(index, scores.argmax(dim=1))
    got, found = spherical_kmeans(ROWS, centroids, num_iters=4)
    torch.testing.assert_close(got, centres, rtol=1e-12, atol=1e-12)
    assert torch.equal(found, owners)


def test_no_rows_have_no_centroids() -> None:
    """A rank may have none."""
    index, similarity = nearest(ROWS[:0], ROWS[:5])
    assert (index.shape, similarity.shape, index.dtype) == ((0,), (0,), torch.int64)

"""Spherical k-means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from losses.proofs import waves
from ranks import run_on_ranks
from torch import Tensor

from ssltyped import distributed
from ssltyped.losses.kmeans import spherical_kmeans

ROWS = F.normalize(waves(24, 4), dim=1)


def slow(rows: Tensor, centroids: Tensor, rounds: int) -> tuple[Tensor, list[int]]:
    centres = [c.clone() for c in centroids]

    def nearest() -> list[int]:
        return [max(range(len(centres)), key=lambda k: float(row @ centres[k])) for row in rows]

    for _ in range(rounds):
        owners = nearest()
        for k in range(len(centres)):
            own = [row for row, owner in zip(rows, owners, strict=True) if owner == k]
            if own:
                total = torch.stack(own).sum(dim=0)
                centres[k] = total / total.norm()
    return torch.stack(centres), nearest()


def test_as_in_plain_loops() -> None:
    want, owners = slow(ROWS, ROWS[:5], 7)
    got, nearest = spherical_kmeans(ROWS, ROWS[:5], num_iters=7)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert nearest.tolist() == owners


def test_a_centroid_that_nobody_is_near_stays() -> None:
    rows = F.normalize(torch.rand(8, 3, dtype=torch.float64) + 0.1, dim=1)
    far = torch.tensor([[-1.0, 0.0, 0.0]], dtype=torch.float64)
    got, nearest = spherical_kmeans(rows, torch.cat([rows[:1], far]), num_iters=3)
    torch.testing.assert_close(got[1:], far)
    assert nearest.tolist() == [0] * 8


def test_separate_groups_are_found() -> None:
    centres = F.normalize(torch.eye(3, dtype=torch.float64) + 0.01, dim=1)
    rows = F.normalize(centres.repeat(10, 1) + 0.05 * waves(30, 3), dim=1)
    _, nearest = spherical_kmeans(rows, rows[:3], num_iters=5)
    assert nearest.reshape(10, 3).eq(torch.arange(3)).all()


def on_rank() -> tuple[Tensor, Tensor]:
    mine = ROWS.chunk(distributed.world_size())[distributed.rank()]
    return spherical_kmeans(mine, ROWS[:5], num_iters=7)


def test_ranks_share_the_centroids() -> None:
    want, nearest = spherical_kmeans(ROWS, ROWS[:5], num_iters=7)
    results = run_on_ranks(on_rank, 2)
    for centroids, _ in results:
        torch.testing.assert_close(centroids, want, rtol=1e-12, atol=1e-12)
    assert torch.equal(torch.cat([own for _, own in results]), nearest)

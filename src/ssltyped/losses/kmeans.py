"""Spherical k-means over the rows of all ranks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed


@torch.no_grad()
def spherical_kmeans(
    rows: Float[Tensor, "B D"], centroids: Float[Tensor, "K D"], *, num_iters: int
) -> tuple[Float[Tensor, "K D"], Int64[Tensor, "B"]]:
    """Centroids of length 1, and for each row of this rank the one with the largest product, after `num_iters` rounds.

        a_n = argmax_k x_n . c_k        c_k <- normalized(sum of x_n with a_n = k)

    Sums run over the rows of all ranks; a centroid without rows stays. The rows are assigned once more at the end.
    Dhillon and Modha 2001, "Concept decompositions for large sparse text data using clustering". Memory: B K.
    """
    for _ in range(num_iters):
        nearest = _nearest(rows, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, rows)
        counts = torch.bincount(nearest, minlength=len(centroids)).to(rows.dtype)
        sums, counts = distributed.all_reduce_sum(sums), distributed.all_reduce_sum(counts)
        centroids = F.normalize(torch.where(counts[:, None] > 0, sums, centroids), dim=1)
    return centroids, _nearest(rows, centroids)


def _nearest(rows: Float[Tensor, "B D"], centroids: Float[Tensor, "K D"]) -> Int64[Tensor, "B"]:
    return (rows @ centroids.T).argmax(dim=1)

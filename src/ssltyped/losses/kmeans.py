"""Spherical k-means over the rows of all ranks."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed

SCORES_BYTES = 64 * 2**20
"""The most memory that products of rows and centroids take at a time; one row's are computed in any case."""


@torch.no_grad()
def spherical_kmeans(
    rows: Float[Tensor, "B D"], centroids: Float[Tensor, "K D"], *, num_iters: int
) -> tuple[Float[Tensor, "K D"], Int64[Tensor, "B"]]:
    """Centroids of length 1, and for each row of this rank the one with the largest product, after `num_iters` rounds.

        a_n = argmax_k x_n . c_k        c_k <- normalized(sum of x_n with a_n = k)

    Sums run over the rows of all ranks; a centroid without rows stays. The rows are assigned once more at the end.
    Dhillon and Modha 2001, "Concept decompositions for large sparse text data using clustering". Memory: K D and
    B numbers, and the scores of `nearest`.
    """
    for _ in range(num_iters):
        owners, _ = nearest(rows, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, owners, rows)
        counts = torch.bincount(owners, minlength=len(centroids)).to(rows.dtype)
        sums, counts = distributed.all_reduce_sum(sums), distributed.all_reduce_sum(counts)
        centroids = F.normalize(torch.where(counts[:, None] > 0, sums, centroids), dim=1)
    return centroids, nearest(rows, centroids)[0]


@torch.no_grad()
def nearest(
    rows: Float[Tensor, "B D"], centroids: Float[Tensor, "K D"]
) -> tuple[Int64[Tensor, "B"], Float[Tensor, "B"]]:
    """For each row the number of the centroid with the largest product x_n . c_k, and that product.

    Memory: of the B K products, no more than `SCORES_BYTES` exist at a time.
    """
    chunk = max(1, SCORES_BYTES // (len(centroids) * rows.element_size()))
    best = [(part @ centroids.T).max(dim=1) for part in torch.split(rows, chunk)]
    return torch.cat([found.indices for found in best]), torch.cat([found.values for found in best])

"""Assignments over the samples of all ranks: balanced ones to prototypes (Sinkhorn), and spherical k-means."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed

TINY = 1e-12
SCORES_BYTES = 64 * 2**20
"""The most memory that products of rows and centroids take at a time; one row's are computed in any case."""


@torch.no_grad()
def assign(
    scores: Float[Tensor, "B K"],
    *,
    epsilon: float,
    num_iters: int,
    power_law: float = 0.0,
    double_precision: bool = False,
) -> Float[Tensor, "B K"]:
    """Q* = Diag(u) exp(scores^T / epsilon) Diag(v) with balanced prototypes, transposed (SwAV, eq. 3 and 5)."""
    exact = scores.double() if double_precision else scores
    return sinkhorn((exact / epsilon).T, num_iters=num_iters, power_law=power_law).to(scores.dtype)


@torch.no_grad()
def sinkhorn(log_q: Float[Tensor, "K B"], *, num_iters: int, power_law: float = 0.0) -> Float[Tensor, "B K"]:
    """Scale rows (prototypes, over all ranks) and columns (samples) of exp(log_q) in turn, `num_iters` times.

    Prototype k gets the share r_k of the samples: 1 / K, or in proportion to 1 / (k + 1)^power_law. Each row of the
    result is a distribution over prototypes. Infinite entries count as the largest finite one; where a prototype has
    no mass at all, every entry gets 1e-12. It is computed in logarithms, so that no score is too small or too large,
    and nothing waits for a GPU. Cuturi 2013 (arXiv 1306.0895); SwAV, appendix A.
    """
    num_prototypes, samples = log_q.shape
    rank = torch.arange(1, num_prototypes + 1, device=log_q.device, dtype=log_q.dtype)
    log_share = F.log_softmax(-power_law * rank.log(), dim=0)
    log_count = math.log(samples * distributed.world_size())
    infinite = log_q == math.inf
    log_q = torch.where(infinite, log_q.masked_fill(infinite, -math.inf).max(), log_q)
    log_q = log_q - _row_sums(log_q.flatten()[None])
    for _ in range(num_iters):
        lacks = (_row_sums(log_q) == -math.inf).any()
        log_q = torch.where(lacks, torch.logaddexp(log_q, log_q.new_full((), math.log(TINY))), log_q)
        log_q = log_q + (log_share - _row_sums(log_q))[:, None]
        log_q = log_q - log_q.logsumexp(dim=0) - log_count
    return log_q.T.softmax(dim=1)


def _row_sums(log_q: Float[Tensor, "K B"]) -> Float[Tensor, "K"]:
    """The logarithm of the sum of each row of exp(log_q), over all ranks."""
    top = distributed.all_reduce_max(log_q.amax(dim=1)).clamp(min=torch.finfo(log_q.dtype).min)
    return top + distributed.all_reduce_sum(torch.exp(log_q - top[:, None]).sum(dim=1)).log()


@torch.no_grad()
def hard(q: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """One for the prototype with the largest share, zero else."""
    return torch.zeros_like(q).scatter_(1, q.argmax(dim=1, keepdim=True), 1.0)


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
        # Not bincount, which waits for a GPU to learn the largest number.
        counts = owners.new_zeros(len(centroids)).index_add_(0, owners, torch.ones_like(owners)).to(rows.dtype)
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

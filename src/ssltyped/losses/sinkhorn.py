"""Balanced assignments of samples to prototypes: Sinkhorn and Knopp's iteration over the samples of all ranks."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssltyped import distributed

TINY = 1e-12


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

"""Balanced assignments of samples to prototypes: Sinkhorn and Knopp's iteration over the samples of all ranks."""

from __future__ import annotations

import torch
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
    """Q* = Diag(u) exp(scores^T / epsilon) Diag(v) with balanced prototypes, transposed (SwAV, eq. 3 and 5).

    The largest score of the world is subtracted first, which does not change Q* and keeps exp finite.
    """
    exact = scores.double() if double_precision else scores
    logits = exact / epsilon
    q = torch.exp(logits - distributed.all_reduce_max(logits.max())).T
    return sinkhorn(q, num_iters=num_iters, power_law=power_law).to(scores.dtype)


@torch.no_grad()
def sinkhorn(q: Float[Tensor, "K B"], *, num_iters: int, power_law: float = 0.0) -> Float[Tensor, "B K"]:
    """Scale rows (prototypes, over all ranks) and columns (samples) of a positive matrix in turn, `num_iters` times.

    Prototype k gets the share r_k of the samples: 1 / K, or in proportion to 1 / (k + 1)^power_law. Each row of the
    result is a distribution over prototypes. Infinite entries count as the largest finite one; a prototype that nobody
    wants starts from 1e-12. Nothing waits for a GPU. Cuturi 2013 (arXiv 1306.0895); SwAV, appendix A.
    """
    num_prototypes, samples = q.shape
    rank = torch.arange(1, num_prototypes + 1, device=q.device, dtype=q.dtype)
    share = rank**-power_law / (rank**-power_law).sum()
    q = _finite(q)
    q = q / distributed.all_reduce_sum(q.sum())
    for _ in range(num_iters):
        rows = distributed.all_reduce_sum(q.sum(dim=1))
        q = q + TINY * (rows == 0).any()
        rows = distributed.all_reduce_sum(q.sum(dim=1))
        q = q * _finite(share / rows)[:, None]
        q = q / (q.sum(dim=0) * samples * distributed.world_size())
    return (q / q.sum(dim=0)).T


def _finite(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x with its largest finite value in the places of infinite ones."""
    infinite = x.isinf()
    return torch.where(infinite, x.masked_fill(infinite, 0).max(), x)


@torch.no_grad()
def hard(q: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """One for the prototype with the largest share, zero else."""
    return torch.zeros_like(q).scatter_(1, q.argmax(dim=1, keepdim=True), 1.0)

"""The losses in plain loops, written from the papers and not from our code, in float64."""

from __future__ import annotations

import torch
from losses.proofs import Seen, Slow
from torch import Tensor


def rows_of(output: Tensor, num_views: int) -> list[list[Tensor]]:
    """`rows[v][n]` of an output whose rows are ordered by view."""
    return [list(view) for view in output.chunk(num_views)]


def simclr(seen: Seen, temperature: float = 0.1) -> Slow:
    """Chen et al. 2020, algorithm 1: images interleaved, l(i, j) for both orders of every pair."""
    first, second = rows_of(seen.outputs[0][0], 2)
    z = [z for pair in zip(first, second, strict=True) for z in pair]

    def similarity(i: int, j: int) -> Tensor:
        return torch.dot(z[i], z[j]) / torch.sqrt(torch.dot(z[i], z[i]) * torch.dot(z[j], z[j]))

    def pair_loss(i: int, j: int) -> Tensor:
        others = [torch.exp(similarity(i, k) / temperature) for k in range(len(z)) if k != i]
        return -torch.log(torch.exp(similarity(i, j) / temperature) / torch.stack(others).sum())

    losses = [pair_loss(2 * k, 2 * k + 1) + pair_loss(2 * k + 1, 2 * k) for k in range(len(first))]
    return Slow(torch.stack(losses).sum() / len(z))

"""The losses in plain loops, written from the papers and not from our code. Views are V x (N, D) in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def simclr(views: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """Chen et al. 2020, algorithm 1: images interleaved, l(i, j) for both orders of every pair."""
    first, second = views
    z = [z for pair in zip(first, second, strict=True) for z in pair]

    def similarity(i: int, j: int) -> Tensor:
        return torch.dot(z[i], z[j]) / torch.sqrt(torch.dot(z[i], z[i]) * torch.dot(z[j], z[j]))

    def pair_loss(i: int, j: int) -> Tensor:
        others = [torch.exp(similarity(i, k) / temperature) for k in range(len(z)) if k != i]
        return -torch.log(torch.exp(similarity(i, j) / temperature) / torch.stack(others).sum())

    losses = [pair_loss(2 * k, 2 * k + 1) + pair_loss(2 * k + 1, 2 * k) for k in range(len(first))]
    return torch.stack(losses).sum() / len(z)

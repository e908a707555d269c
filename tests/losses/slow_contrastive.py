"""Contrastive losses and Barlow Twins in plain loops, from the papers' equations."""

from __future__ import annotations

import torch
from losses.proofs import Seen, Slow
from losses.slow import rows_of
from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a, b) / torch.sqrt(torch.dot(a, a) * torch.dot(b, b))


def multicrop_simclr(seen: Seen, num_views: int = 3, temperature: float = 0.1) -> Slow:
    """Every crop is an anchor; every other crop of its image a positive; the crops of other images are negatives."""
    crops = rows_of(seen.outputs[0][0], num_views)
    terms = []
    for c in range(num_views):
        for n in range(len(crops[0])):
            others = [
                torch.exp(cosine(crops[c][n], crops[d][m]) / temperature)
                for d in range(num_views)
                for m in range(len(crops[0]))
                if m != n
            ]
            for p in range(num_views):
                if p != c:
                    positive = torch.exp(cosine(crops[c][n], crops[p][n]) / temperature)
                    terms.append(-torch.log(positive / (positive + torch.stack(others).sum())))
    return Slow(torch.stack(terms).mean())


def moco(seen: Seen, temperature: float = 0.2) -> Slow:
    """He et al. 2020, eq. 1 and algorithm 1; the queue as a list whose oldest entries are overwritten."""
    queries, keys = seen.outputs[0][0], seen.teacher[0][0]
    queue = seen.state["queue"]
    terms = []
    for q, k in zip(queries, keys, strict=True):
        positive = torch.exp(cosine(q, k) / temperature)
        length = torch.sqrt(torch.dot(q, q))  # the queue's keys have length 1
        negatives = [torch.exp(torch.dot(q, old) / length / temperature) for old in queue]
        terms.append(-torch.log(positive / (positive + torch.stack(negatives).sum())))
    updated = queue.clone()
    for n, k in enumerate(keys):
        updated[(seen.step * len(keys) + n) % len(queue)] = k / torch.sqrt(torch.dot(k, k))
    return Slow(torch.stack(terms).mean(), {"queue": updated})


def barlow_twins(seen: Seen, lambda_off: float = 0.0051, scale: float = 0.024, joint: bool = False) -> Slow:
    """Zbontar et al. 2021, eq. 1 and 2 and algorithm 1: features standardized in each view, or jointly over both."""
    z = seen.outputs[0][0]
    views = (z, z) if joint else z.chunk(2)
    sides: list[list[Tensor]] = []
    for view in views:
        columns = []
        for d in range(z.shape[1]):
            mean = sum(view[:, d], torch.zeros(())) / len(view)
            variance = sum((view[:, d] - mean) ** 2, torch.zeros(())) / len(view)
            columns.append((view[:, d] - mean) / torch.sqrt(variance + 1e-5))
        sides.append(columns)
    images = len(z) // 2
    second = images if joint else 0
    loss = torch.zeros((), dtype=torch.float64)
    for i, a in enumerate(sides[0]):
        for j, b in enumerate(sides[1]):
            c = sum((a[n] * b[second + n] for n in range(images)), torch.zeros(())) / images
            loss = loss + ((1 - c) ** 2 if i == j else lambda_off * c**2)
    return Slow(scale * loss)

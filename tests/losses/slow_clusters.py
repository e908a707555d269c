"""Clustering losses in plain loops, from the papers' equations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from losses.proofs import Seen, Slow
from losses.slow import rows_of
from torch import Tensor


def sinkhorn(scores: Sequence[Tensor], epsilon: float, iterations: int) -> list[list[float]]:
    """SwAV's appendix A: start from exp(s / eps), give every prototype, then every sample, its share."""
    q = [[math.exp(float(s.detach()) / epsilon) for s in row] for row in scores]
    samples, prototypes = len(q), len(q[0])
    for _ in range(iterations):
        for k in range(prototypes):
            total = sum(q[n][k] for n in range(samples))
            for n in range(samples):
                q[n][k] /= total * prototypes
        for n in range(samples):
            total = sum(q[n])
            q[n] = [value / total / samples for value in q[n]]
    return [[value / sum(row) for value in row] for row in q]


def log_softmax(scores: Tensor, temperature: float) -> list[Tensor]:
    total = torch.log(torch.stack([torch.exp(s / temperature) for s in scores]).sum())
    return [s / temperature - total for s in scores]


def swav(
    seen: Seen,
    num_views: int = 4,
    crops: Sequence[int] = (0, 1),
    temperature: float = 0.1,
    queue: int = 0,
) -> Slow:
    """Eq. 1 and 4: the loss of every pair of an assign crop and another crop, for all prototypes."""
    embedding, *heads = seen.outputs[0]
    source = seen.teacher[0] if seen.teacher else [embedding, *heads]
    views = len(source[0]) // (len(embedding) // num_views)
    place = {crop: crop if views == num_views else order for order, crop in enumerate(crops)}
    prefix = "encoder.model."
    teacher = {name.removeprefix(prefix): value for name, value in seen.state.items() if name.startswith(prefix)}
    scorer = teacher or seen.weights
    terms = []
    for head, scores in enumerate(heads):
        student, target = rows_of(scores, num_views), rows_of(source[1 + head], views)
        for order, crop in enumerate(crops):
            rows = list(target[place[crop]])
            if queue and seen.step * len(rows) >= queue:
                matrix = scorer[f"heads.head.scored.{head}"]
                rows += [z @ matrix for z in seen.state["queue"][order]]
            codes = sinkhorn(rows, 0.05, 3)
            pairs = [
                -sum((q * lp for q, lp in zip(codes[n], log_softmax(s, temperature), strict=True)), torch.zeros(()))
                for p in range(num_views)
                if p != crop
                for n, s in enumerate(student[p])
            ]
            terms.append(torch.stack(pairs).mean())
    state: Mapping[str, Tensor] = {}
    if queue:
        new = torch.stack([torch.stack(rows_of(source[0], views)[place[crop]]) for crop in crops]).detach()
        state = {"queue": torch.cat([new, seen.state["queue"]], dim=1)[:, :queue]}
    return Slow(torch.stack(terms).mean(), state)

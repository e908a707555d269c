"""Weighted k-nearest-neighbour classification of frozen features."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from ssltyped.meters.hits import hits

TOP = 5
"""So many classes are ranked."""


def knn_accuracy(
    bank: Float[Tensor, "N D"],
    bank_labels: Int64[Tensor, "N"],
    queries: Float[Tensor, "M D"],
    query_labels: Int64[Tensor, "M"],
    *,
    k: int,
    temperature: float,
    num_classes: int,
    normalize: bool = True,
) -> dict[str, float]:
    """Percent of the M queries whose label gets the most (`top1`) or one of the five most (`top5`) votes.

    A class without a vote is no hit, nor is one that shares its place with others (`ssltyped.meters.hits`); nan without
    queries. See `knn_predict` for the votes, the other arguments and what is raised.
    """
    found = [torch.zeros(0, TOP, dtype=torch.bool)]
    start = 0
    for votes in _votes(bank, bank_labels, queries, k, temperature, num_classes, normalize):
        labels = query_labels[start : start + len(votes)]
        has_vote = votes.gather(1, labels.clamp(0, num_classes - 1)[:, None]) > -math.inf
        found.append((hits(votes, labels, TOP) & has_vote).cpu())
        start += len(votes)
    right = torch.cat(found)
    return {f"top{t}": 100 * right[:, :t].any(dim=1).double().mean().item() for t in (1, TOP)}


def knn_predict(
    bank: Float[Tensor, "N D"],
    bank_labels: Int64[Tensor, "N"],
    queries: Float[Tensor, "M D"],
    *,
    k: int,
    temperature: float,
    num_classes: int,
    normalize: bool = True,
    chunk: int = 256,
) -> Int64[Tensor, "M T"]:
    """The min(5, num_classes) classes with the most votes for each query, the first first; -1 in place of no votes.

        votes(c) = sum over the k nearest i with label c of exp(s_i / temperature),   s_i = <q, x_i>

    where q and x_i are L2-normalized first if `normalize` (then s is the cosine). Images that are equally far away
    share the votes of those of them that are among the k, so that the order of the bank does not matter; one whose
    features are nan is nobody's neighbour, and has none. Wu et al. 2018 (arXiv 1805.01978), section 3.4, which takes
    k = 200 and temperature 0.07. `chunk` queries are compared with the bank at once: chunk x N similarities are the
    largest thing in memory. Runs where the features are, in their precision.
    Raises ValueError if k > N, or if a label of the bank is not in [0, num_classes).
    """
    ranked = [bank_labels.new_empty(0, min(TOP, num_classes))]
    for votes in _votes(bank, bank_labels, queries, k, temperature, num_classes, normalize, chunk):
        highest = _lowest_if_nan(votes).topk(min(TOP, num_classes), dim=1)
        ranked.append(torch.where(highest.values > -math.inf, highest.indices, -1))
    return torch.cat(ranked)


def _votes(
    bank: Float[Tensor, "N D"],
    bank_labels: Int64[Tensor, "N"],
    queries: Float[Tensor, "M D"],
    k: int,
    temperature: float,
    num_classes: int,
    normalize: bool,
    chunk: int = 256,
) -> Iterator[Float[Tensor, "m C"]]:
    """The votes for each class, of `chunk` queries at a time; -inf for one that no neighbour votes for."""
    if k > len(bank_labels):
        raise ValueError(f"k is {k}, and the bank has only {len(bank_labels)} images")
    low, high = (int(bound) for bound in bank_labels.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels of the bank are in [{low}, {high}], and num_classes is {num_classes}")
    if normalize:
        bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    for start in range(0, len(queries), chunk):
        similarities = _lowest_if_nan(queries[start : start + chunk] @ bank.T)
        nearest = similarities.topk(k, dim=1)
        # Votes relative to that of the nearest: exp() of features that are not normalized would overflow.
        votes = ((nearest.values - nearest.values[:, :1]) / temperature).exp()
        labels = bank_labels[nearest.indices]
        totals = votes.new_zeros(len(votes), num_classes).scatter_add_(1, labels, votes)
        voted = torch.zeros_like(totals).scatter_add_(1, labels, (nearest.values > -math.inf).to(votes.dtype))
        edge = nearest.values[:, -1:]
        tied = (similarities == edge).sum(dim=1) > (nearest.values == edge).sum(dim=1)
        for row in tied.nonzero()[:, 0].tolist():
            at_edge, inside = similarities[row] == edge[row], nearest.values[row] > edge[row]
            shares = torch.bincount(bank_labels[at_edge], minlength=num_classes) / at_edge.sum()
            weights = torch.cat([votes[row, inside], votes[row, -1] * (k - inside.sum()) * shares])
            classes = torch.cat([labels[row, inside], torch.arange(num_classes, device=labels.device)])
            totals[row] = torch.zeros_like(totals[row]).scatter_add_(0, classes, weights)
            voted[row] += shares * (edge[row] > -math.inf)
        yield totals.masked_fill(voted == 0, -math.inf)


def _lowest_if_nan(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return x.masked_fill(x.isnan(), -math.inf)

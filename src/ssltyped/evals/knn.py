"""Weighted k-nearest-neighbour classification of frozen features."""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.evals.neighbours import Nearest, Rows, nearest, query_blocks
from ssltyped.meters.hits import hits
from ssltyped.meters.topk import percent
from ssltyped.types import Share

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
    found = knn_accuracies(
        bank,
        bank_labels,
        queries,
        query_labels,
        ks=[k],
        temperature=temperature,
        num_classes=num_classes,
        normalize=normalize,
        share=Share.ALL,
    )
    return found[k]


def knn_accuracies(
    bank: Rows,
    bank_labels: Int64[Tensor, "N"],
    queries: Rows,
    query_labels: Int64[Tensor, "M"],
    *,
    ks: Sequence[int],
    temperature: float,
    num_classes: int,
    normalize: bool = True,
    share: Share = Share.OWN,
) -> dict[int, dict[str, float]]:
    """`knn_accuracy` for several k in one pass, of features that need not fit in memory, and over the ranks.

    With `Share.OWN` (collective) every rank gives the part of bank and queries that it has, and gets what one process
    with all of them would; the parts may differ in size, and be empty. In memory are blocks of `neighbours.QUERIES` x
    `neighbours.ROWS` similarities, and what is kept of the neighbours, QUERIES x (k + num_classes).
    """
    found, total = {k: torch.zeros(TOP, dtype=torch.int64) for k in ks}, 0
    for near, labels in _neighbours(bank, bank_labels, queries, query_labels, max(ks), num_classes, normalize, share):
        total += len(labels)
        for k in ks:
            votes = near.votes(k, temperature)
            has_vote = votes.gather(1, labels.clamp(0, num_classes - 1)[:, None]) > -math.inf
            found[k] += (hits(votes, labels, TOP) & has_vote).sum(dim=0).cpu()
    return {k: {f"top{t}": percent(int(right[:t].sum()), total) for t in (1, TOP)} for k, right in found.items()}


def knn_predict(
    bank: Float[Tensor, "N D"],
    bank_labels: Int64[Tensor, "N"],
    queries: Float[Tensor, "M D"],
    *,
    k: int,
    temperature: float,
    num_classes: int,
    normalize: bool = True,
) -> Int64[Tensor, "M T"]:
    """The min(5, num_classes) classes with the most votes for each query, the first first; -1 in place of no votes.

        votes(c) = sum over the k nearest i with label c of exp(s_i / temperature),   s_i = <q, x_i>

    where q and x_i are L2-normalized first if `normalize` (then s is the cosine). Images that are equally far away
    share the votes of those of them that are among the k, so that the order of the bank does not matter; one whose
    features are nan is nobody's neighbour, and has none. Wu et al. 2018 (arXiv 1805.01978), section 3.4, which takes
    k = 200 and temperature 0.07. Runs where the queries are, in their precision, block by block (`knn_accuracies`).
    Raises ValueError if k > N, or if a label of the bank is not in [0, num_classes).
    """
    ranked = [torch.empty(0, min(TOP, num_classes), dtype=torch.int64, device=queries.device)]
    unknown = torch.full((len(queries),), -1)
    for near, _ in _neighbours(bank, bank_labels, queries, unknown, k, num_classes, normalize, Share.ALL):
        votes = near.votes(k, temperature)
        highest = votes.masked_fill(votes.isnan(), -math.inf).topk(min(TOP, num_classes), dim=1)
        ranked.append(torch.where(highest.values > -math.inf, highest.indices, -1))
    return torch.cat(ranked)


def _neighbours(
    bank: Rows,
    bank_labels: Int64[Tensor, "N"],
    queries: Rows,
    query_labels: Int64[Tensor, "M"],
    k: int,
    num_classes: int,
    normalize: bool,
    share: Share,
) -> Iterator[tuple[Nearest, Int64[Tensor, "Q"]]]:
    """The k nearest and the labels of a block of queries at a time, on every rank."""
    own = torch.tensor([len(bank_labels)])
    count = int(own if share is Share.ALL else distributed.all_reduce_sum(own))
    if k > count:
        raise ValueError(f"k is {k}, and the bank has only {count} images")
    bounds = torch.tensor([-num_classes, -1])
    if len(bank_labels):
        low, high = (int(bound) for bound in bank_labels.aminmax())
        bounds = torch.tensor([-low, high])
    low, high = (bounds if share is Share.ALL else distributed.all_reduce_max(bounds)).tolist()
    if low > 0 or high >= num_classes:
        raise ValueError(f"labels of the bank are in [{-low}, {high}], and num_classes is {num_classes}")
    for part, labels in query_blocks(queries, query_labels, share):
        near = nearest(bank, bank_labels, part, k, num_classes, normalize)
        yield (near if share is Share.ALL else near.over_ranks()), labels

"""Retrieval of the images of the same class: how good the ranking of a database is for each query."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from ssltyped import distributed
from ssltyped.evals.neighbours import ROWS, Rows

SIMILARITIES = 2**22
"""Similarities that are ranked at once."""


@dataclasses.dataclass(frozen=True)
class ClassRetrieval:
    """How good rankings are, over the queries whose class is in the database; nan without such.

    Args:
        mean_ap: the mean of their average precisions, in percent.
        deviation: the standard deviation of these, in percent.
        recalls: at each cutoff k, the percentage of queries with an image of their class among the first k.
        num_queries: how many queries these are.
    """

    mean_ap: float
    deviation: float
    recalls: Mapping[int, float]
    num_queries: int


def class_retrieval(
    database: Rows,
    database_labels: Int64[Tensor, "N"],
    queries: Rows,
    query_labels: Int64[Tensor, "Q"],
    *,
    cutoffs: Sequence[int] = (1, 5, 10),
    normalize: bool = True,
) -> ClassRetrieval:
    """Rank the database for each query by <q, x> (the cosine if `normalize`); relevant are the images of its class.

    Average precision is that of `retrieval.ap_of_ranks` (Philbin et al. 2007), recall at k that of metric learning
    (Jegou et al. 2011, "Product quantization for nearest neighbor search", section V; Oh Song et al. 2016, arXiv
    1511.06452). Of equally similar images the relevant ones come last, and nan is the least similar, as in
    `retrieval.ranking`. Collective: each rank gives the whole database and its own share of the queries, and gets the
    result of all. At most about `SIMILARITIES` similarities (or one query's) are in memory at once.
    """
    sums = torch.zeros(3 + len(cutoffs), dtype=torch.float64)
    size = max(1, SIMILARITIES // max(1, len(database)))
    for start in range(0, len(queries), size):
        part = queries[start : start + size]
        labels = query_labels[start : start + size].to(part.device)
        relevant = labels[:, None] == database_labels.to(part.device)
        there = relevant.any(dim=1)
        found = _relevance(_similarities(part, database, normalize)[there], relevant[there])
        precisions = average_precisions(found)
        recalls = [found[:, :k].any(dim=1).double().sum() for k in cutoffs]
        sums += torch.stack([there.double().sum(), precisions.sum(), precisions.square().sum(), *recalls]).cpu()
    count, total, squares, *hits = distributed.all_reduce_sum(sums).tolist()
    if not count:
        return ClassRetrieval(math.nan, math.nan, dict.fromkeys(cutoffs, math.nan), 0)
    mean = total / count
    variance = max(0.0, squares - count * mean**2) / max(1.0, count - 1)
    recalled = {k: 100 * hit / count for k, hit in zip(cutoffs, hits, strict=True)}
    return ClassRetrieval(100 * mean, 100 * math.sqrt(variance), recalled, int(count))


def _similarities(queries: Float[Tensor, "q D"], database: Rows, normalize: bool) -> Float[Tensor, "q N"]:
    found = queries.new_empty(len(queries), len(database))
    wanted = F.normalize(queries, dim=1) if normalize else queries
    for start in range(0, len(database), ROWS):
        part = database[start : start + ROWS].to(wanted)
        found[:, start : start + ROWS] = wanted @ (F.normalize(part, dim=1) if normalize else part).T
    return found


def _relevance(similarities: Float[Tensor, "q N"], relevant: Bool[Tensor, "q N"]) -> Bool[Tensor, "q N"]:
    """Whether the image at each place of the ranking is relevant."""
    lowest = similarities.masked_fill(similarities.isnan(), -math.inf)
    relevant_last = relevant.to(torch.uint8).argsort(dim=1, stable=True)
    order = lowest.gather(1, relevant_last).argsort(dim=1, descending=True, stable=True)
    return relevant.gather(1, relevant_last.gather(1, order))


def average_precisions(found: Bool[Tensor, "q N"]) -> Float64[Tensor, "q"]:
    """Of rankings that say at each place whether the image is relevant; each has one at least (`ap_of_ranks`)."""
    place = torch.arange(found.shape[1], dtype=torch.float64, device=found.device)
    after = found.cumsum(dim=1).double()
    before = torch.where(place == 0, 1.0, (after - 1) / place.clamp(min=1))
    steps = torch.where(found, before + after / (place + 1), 0.0)
    return steps.sum(dim=1) / (2 * found.sum(dim=1))

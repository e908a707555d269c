"""The nearest rows of a set of any size, block by block and over the ranks, and how they vote."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from ssltyped import distributed
from ssltyped.types import Share

QUERIES, ROWS = 2048, 2048
"""So many queries are compared with so many rows at once: 16 MiB of similarities in float32."""


@runtime_checkable
class Rows(Protocol):
    """Rows of features, of which a part is read at a time: a tensor, or what lies on a disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The k rows of a set that are most similar to each query, and what is needed to share a place that several claim.

    Args:
        values: their similarities, the highest first; -inf in place of rows that are not there.
        labels: their classes.
        at_edge: by class, how many rows of the whole set are as similar as the last of the k.
    """

    values: Float[Tensor, "Q k"]
    labels: Int64[Tensor, "Q k"]
    at_edge: Float[Tensor, "Q C"]

    @classmethod
    def among(cls, similarities: Float[Tensor, "Q b"], labels: Int64[Tensor, "b"], k: int, num_classes: int) -> Nearest:
        """Of a block of rows with these classes. A row that is nan is nobody's neighbour."""
        lowest = similarities.masked_fill(similarities.isnan(), -math.inf)
        best = lowest.topk(min(k, lowest.shape[1]), dim=1)
        lacking = k - best.values.shape[1]
        values = F.pad(best.values, (0, lacking), value=-math.inf)
        at_edge = _counts(lowest == values[:, -1:], labels.expand_as(lowest), num_classes, lowest.dtype)
        return cls(values, F.pad(labels[best.indices], (0, lacking)), at_edge)

    def counts_at(self, edge: Float[Tensor, "Q 1"]) -> Float[Tensor, "Q C"]:
        """By class, how many rows of the whole set are as similar as `edge`, which is at least our last value."""
        within = _counts(self.values == edge, self.labels, self.at_edge.shape[1], self.at_edge.dtype)
        return torch.where(self.values[:, -1:] == edge, self.at_edge, within)

    def merged(self, other: Nearest) -> Nearest:
        """Of both sets together."""
        values, labels = torch.cat([self.values, other.values], 1), torch.cat([self.labels, other.labels], 1)
        best = values.topk(self.values.shape[1], dim=1)
        edge = best.values[:, -1:]
        at_edge = self.counts_at(edge) + other.counts_at(edge)
        return Nearest(best.values, labels.gather(1, best.indices), at_edge)

    def over_ranks(self) -> Nearest:
        """Of the sets of all ranks together, for the same queries (collective)."""
        if distributed.world_size() == 1:
            return self
        (count, k), world = self.values.shape, distributed.world_size()
        values, labels = (
            distributed.gather_no_grad(one).reshape(world, count, k).transpose(0, 1).reshape(count, world * k)
            for one in (self.values, self.labels)
        )
        best = values.topk(k, dim=1)
        at_edge = distributed.all_reduce_sum(self.counts_at(best.values[:, -1:]))
        return Nearest(best.values, labels.gather(1, best.indices), at_edge)

    def votes(self, k: int, temperature: float) -> Float[Tensor, "Q C"]:
        """What the first k vote for each class (see `knn.knn_predict`); -inf for one that none of them is of."""
        values, labels = self.values[:, :k], self.labels[:, :k]
        edge = values[:, -1:]
        # Votes relative to that of the nearest: exp() of features that are not normalized would overflow.
        weights = ((values - values[:, :1]) / temperature).exp()
        inside, at_edge = values > edge, self.counts_at(edge)
        shares = at_edge / at_edge.sum(dim=1, keepdim=True).clamp(min=1)
        left = weights[:, -1:] * (~inside).sum(dim=1, keepdim=True)
        totals = (left * shares).scatter_add(1, labels, weights * inside)
        voted = (shares * (edge > -math.inf)).scatter_add(1, labels, inside.to(weights.dtype))
        return totals.masked_fill(voted == 0, -math.inf)


def _counts(chosen: Tensor, labels: Int64[Tensor, "Q b"], num_classes: int, dtype: torch.dtype) -> Float[Tensor, "Q C"]:
    """How many of each row are chosen, by label."""
    counts = torch.zeros(len(chosen), num_classes, dtype=dtype, device=chosen.device)
    return counts.scatter_add_(1, labels, chosen.to(dtype))


def nearest(
    rows: Rows, labels: Int64[Tensor, "N"], queries: Float[Tensor, "Q D"], k: int, num_classes: int, normalize: bool
) -> Nearest:
    """The k rows with the highest <q, x> (the cosine if `normalize`), on the device of the queries."""
    found = Nearest.among(queries.new_empty(len(queries), 0), labels[:0].to(queries.device), k, num_classes)
    wanted = F.normalize(queries, dim=1) if normalize else queries
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS].to(wanted)
        similarities = wanted @ (F.normalize(part, dim=1) if normalize else part).T
        own = labels[start : start + ROWS].to(wanted.device)
        found = found.merged(Nearest.among(similarities, own, k, num_classes))
    return found


def query_blocks(queries: Rows, labels: Int64[Tensor, "M"], share: Share) -> Iterator[tuple[Tensor, Tensor]]:
    """At most `QUERIES` queries and their labels at a time; of all ranks, the same on each, if each has a share."""
    if share is Share.ALL or distributed.world_size() == 1:
        for start in range(0, len(queries), QUERIES):
            part = queries[start : start + QUERIES]
            yield part, labels[start : start + QUERIES].to(part.device)
        return
    size = max(1, QUERIES // distributed.world_size())
    most = int(distributed.all_reduce_max(torch.tensor(len(queries))))
    for start in range(0, most, size):
        part = queries[start : start + size]
        own = labels[start : start + size].to(part.device)
        yield distributed.gather_uneven(part), distributed.gather_uneven(own)

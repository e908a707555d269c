"""Retrieval of instances: descriptors from feature maps, their whitening, and how good a ranking of a database is."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

FLOOR = 1e-5
OVERLAP = 0.4
GEM_FLOOR = 1e-6


@dataclasses.dataclass(frozen=True)
class Whitening:
    """y = P (x - mean): the coordinates of x along the first principal components, equally long over what was fitted.

    Args:
        mean: of the fitted rows.
        projection: P, with rows v_i^T / sqrt(d_i).
    """

    mean: Float[Tensor, "D"]
    projection: Float[Tensor, "P D"]

    def __call__(self, rows: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows P"]:
        return (rows - self.mean) @ self.projection.T


def fit_whitening(rows: Float[Tensor, "N D"], num_components: int) -> Whitening:
    """The whitening by the eigenvectors v_i of sum_n (x_n - mean)(x_n - mean)^T with the largest eigenvalues d_i.

    The sum is not divided by N, so the squares of each coordinate of the fitted rows add up to 1. Eigenvalues count as
    1e-5 of the largest at least, which keeps directions without variance from becoming large. The largest entry of
    each v_i is positive, so the result is the same wherever it is computed. It is computed in float64 and given in the
    dtype of the rows. Jegou and Chum 2012, "Negative evidences and co-occurences in image retrieval: the benefit of
    PCA and whitening", section 3. Memory: D^2.

    Raises:
        ValueError: fewer than 2 rows, or more components than a row has entries.
    """
    if len(rows) < 2 or not 1 <= num_components <= rows.shape[1]:
        raise ValueError(f"{num_components} components of {len(rows)} rows that are {rows.shape[1]} wide")
    exact = rows.double()
    mean = exact.mean(dim=0)
    centred = exact - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    values = values.clamp(min=FLOOR * float(values[-1]))
    chosen = vectors.T.flip(0)[:num_components]
    largest = chosen.gather(1, chosen.abs().argmax(dim=1, keepdim=True))
    projection = chosen * largest.sign() / values.flip(0)[:num_components, None].sqrt()
    return Whitening(mean.to(rows.dtype), projection.to(rows.dtype))


def gem(
    maps: Float[Tensor, "B C H W"], p: float = 3.0, *, clamp: bool = True, bias: bool = False
) -> Float[Tensor, "B D"]:
    """Generalized mean of each channel: (mean over pixels of x^p)^(1/p); p = inf is the maximum, p = 1 the mean.

    With `clamp`, activations count as 1e-6 at least for other p; without, a mean of powers below 0 gives nan. `bias`
    appends a 1, for a linear map that follows (D = C + 1, else C). Radenovic et al. 2018 (arXiv 1711.02512), eq. 2;
    p 3 is their start value.
    """
    if math.isinf(p):
        pooled = maps.amax(dim=(2, 3))
    elif p == 1:
        pooled = maps.mean(dim=(2, 3))
    else:
        powers = (maps.clamp(min=GEM_FLOOR) if clamp else maps).pow(p)
        pooled = powers.mean(dim=(2, 3)).pow(1 / p)
    return F.pad(pooled, (0, 1), value=1.0) if bias else pooled


def multiscale_gem(
    maps: Sequence[Float[Tensor, "B C _ _"]], p: float = 3.0, *, clamp: bool = True, bias: bool = False
) -> Float[Tensor, "B D"]:
    """The mean over scales of the generalized mean of the same images' maps; Radenovic et al. 2018, section 4.4."""
    return torch.stack([gem(one, p, clamp=clamp, bias=bias) for one in maps]).mean(dim=0)


class Region(NamedTuple):
    """A square part of a feature map, in its pixels."""

    left: int
    top: int
    side: int


def rmac_regions(height: int, width: int, levels: int) -> list[Region]:
    """Squares of levels 1 to `levels` that cover the map, row by row.

    At level l the side is floor(2 m / (l + 1)) with m = min(height, width); l squares lie along the shorter side, and
    as many more along the longer one as make neighbours of level 1 overlap by nearest to 40 %. Tolias et al. 2016
    (arXiv 1511.05879), section 3.2.
    """
    shorter, longer = min(height, width), max(height, width)
    # Steps between 2 to 7 squares of level 1, and how much of a square its neighbour then shares.
    shares = [1 - (longer - shorter) / (squares - 1) / shorter for squares in range(2, 8)]
    extra = 0 if height == width else min(range(len(shares)), key=lambda i: abs(shares[i] - OVERLAP)) + 1
    more_rows, more_columns = (extra, 0) if height > width else (0, extra)
    regions = []
    for level in range(1, levels + 1):
        side = 2 * shorter // (level + 1)
        rows, columns = _starts(height, side, level + more_rows), _starts(width, side, level + more_columns)
        regions += [Region(left, top, side) for top in rows for left in columns]
    return regions


def _starts(length: int, side: int, count: int) -> list[int]:
    """Where `count` parts of a side begin that are spread over a length."""
    step = (length - side) / (count - 1) if count > 1 else 0.0
    return [math.floor(place * step) for place in range(count)]


def rmac_vectors(maps: Float[Tensor, "B C H W"], levels: int = 3, *, normalize: bool = True) -> Float[Tensor, "B R C"]:
    """The maximum of each channel in each region of `rmac_regions`, scaled to length 1 if `normalize`."""
    regions = rmac_regions(maps.shape[2], maps.shape[3], levels)
    maxima = [maps[:, :, r.top : r.top + r.side, r.left : r.left + r.side].amax(dim=(2, 3)) for r in regions]
    vectors = torch.stack(maxima, dim=1)
    return F.normalize(vectors, dim=-1) if normalize else vectors


def rmac(
    maps: Float[Tensor, "B C H W"], levels: int = 3, *, whitening: Optional[Whitening] = None
) -> Float[Tensor, "B P"]:
    """Regional maximum activations: normalized(sum over regions of normalized(whitening(normalized(maxima)))).

    Without whitening P is C. Tolias et al. 2016 (arXiv 1511.05879), section 3.2; 3 levels there.
    """
    vectors = rmac_vectors(maps, levels)
    if whitening is not None:
        vectors = F.normalize(whitening(vectors), dim=-1)
    return F.normalize(vectors.sum(dim=1), dim=1)


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """What a query is to find.

    Args:
        relevant: numbers of the images in the database.
        ignored: images that count neither way (junk): they are taken out of the ranking.
    """

    relevant: Sequence[int]
    ignored: Sequence[int] = ()


def ranking(
    database: Float[Tensor, "N D"], queries: Float[Tensor, "Q D"], truth: Sequence[GroundTruth] = ()
) -> Int64[Tensor, "N Q"]:
    """For each query (a column) the numbers of the database's images, the most similar first (by inner product).

    Of equally similar ones the relevant ones come last where the truth is given, so that no order of the database makes
    a ranking look better than it is; without it, the first in the database is the first. nan is the least similar.
    """
    similarities = database @ queries.T
    similarities = similarities.masked_fill(similarities.isnan(), -math.inf)
    relevant = torch.zeros_like(similarities, dtype=torch.uint8)
    for query, one in enumerate(truth):
        relevant[list(one.relevant), query] = 1
    relevant_last = relevant.argsort(dim=0, stable=True)
    order = similarities.gather(0, relevant_last).argsort(dim=0, descending=True, stable=True)
    return relevant_last.gather(0, order)


def ap_of_ranks(ranks: Sequence[int], num_relevant: int) -> float:
    """Average precision of a query whose relevant images were found at these ranks (from 0, increasing).

        AP = sum_j (p_j + q_j) / (2 num_relevant),   p_j = j / r_j (1 if r_j = 0),   q_j = (j + 1) / (r_j + 1)

    It is the area under the line between the precisions before and at each found image, as in the benchmark of
    Philbin et al. 2007, "Object retrieval with large vocabularies and fast spatial matching". Relevant images that
    were not found add 0.
    """
    steps = ((place / rank if rank else 1.0) + (place + 1) / (rank + 1) for place, rank in enumerate(ranks))
    return sum(steps, 0.0) / (2 * num_relevant)


@dataclasses.dataclass(frozen=True)
class RetrievalScores:
    """How good rankings are, in [0, 1]; nan for a query without relevant images, which the means leave out.

    Args:
        mean_ap: the mean of `aps`.
        aps: average precision of each query (`ap_of_ranks`).
        mean_precisions: the means of `precisions`.
        precisions: at each cutoff k: the share of relevant images among the first k, or among those down to the last
            relevant one if that comes before.
    """

    mean_ap: float
    aps: Float64[Tensor, "Q"]
    mean_precisions: Float64[Tensor, "K"]
    precisions: Float64[Tensor, "Q K"]


def score_rankings(
    ranks: Int64[Tensor, "N Q"], truth: Sequence[GroundTruth], cutoffs: Sequence[int] = (1, 5, 10)
) -> RetrievalScores:
    """The scores of rankings (a column a query, as from `ranking`), as in Radenovic et al. 2018 (arXiv 1803.11285).

    Its three settings differ in what is relevant and what is ignored. Raises ValueError for another number of queries.
    """
    if ranks.shape[1] != len(truth):
        raise ValueError(f"there are {ranks.shape[1]} rankings, and the truth of {len(truth)} queries")
    found = [_of_query(order, one, cutoffs) for order, one in zip(ranks.T.tolist(), truth, strict=True)]
    scores = torch.tensor(found, dtype=torch.float64).reshape(len(truth), 1 + len(cutoffs))
    means = scores.nanmean(dim=0)
    return RetrievalScores(float(means[0]), scores[:, 0], means[1:], scores[:, 1:])


def _of_query(order: Sequence[int], truth: GroundTruth, cutoffs: Sequence[int]) -> list[float]:
    """AP, then the precision at each cutoff."""
    if not truth.relevant:
        return [math.nan] * (1 + len(cutoffs))
    relevant, ignored = set(truth.relevant), set(truth.ignored)
    kept = [image for image in order if image not in ignored]
    places = [place for place, image in enumerate(kept) if image in relevant]
    ap = ap_of_ranks(places, len(truth.relevant))
    if not places:
        return [ap] + [0.0] * len(cutoffs)
    cuts = [min(places[-1] + 1, cutoff) for cutoff in cutoffs]
    return [ap, *(sum(place < cut for place in places) / cut for cut in cuts)]

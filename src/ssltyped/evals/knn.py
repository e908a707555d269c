"""Weighted k-nearest-neighbour classification of frozen features."""

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


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

    See `knn_predict` for the arguments and what is raised.
    """
    ranked = knn_predict(
        bank, bank_labels, queries, k=k, temperature=temperature, num_classes=num_classes, normalize=normalize
    )
    hits = ranked == query_labels[:, None]
    return {f"top{t}": 100 * hits[:, :t].any(dim=1).double().mean().item() for t in (1, 5)}


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
    """The min(5, num_classes) classes with the most votes for each query, the first first.

        votes(c) = sum over the k nearest i with label c of exp(s_i / temperature),   s_i = <q, x_i>

    where q and x_i are L2-normalized first if `normalize` (then s is the cosine). Wu et al. 2018
    (arXiv 1805.01978), section 3.4, which takes k = 200 and temperature 0.07. `chunk` queries are compared with
    the bank at once: chunk x N similarities are the largest thing in memory. Runs where the features are, in
    their precision. Raises ValueError if k > N, or if a label of the bank is not in [0, num_classes).
    """
    if k > len(bank_labels):
        raise ValueError(f"k is {k}, and the bank has only {len(bank_labels)} images")
    low, high = (int(bound) for bound in bank_labels.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels of the bank are in [{low}, {high}], and num_classes is {num_classes}")
    if normalize:
        bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    ranked = bank_labels.new_empty(len(queries), min(5, num_classes))
    for start in range(0, len(queries), chunk):
        nearest = (queries[start : start + chunk] @ bank.T).topk(k, dim=1)
        # Votes relative to that of the nearest: exp() of features that are not normalized would overflow.
        votes = ((nearest.values - nearest.values[:, :1]) / temperature).exp()
        totals = votes.new_zeros(len(votes), num_classes).scatter_add_(1, bank_labels[nearest.indices], votes)
        ranked[start : start + chunk] = totals.topk(ranked.shape[1], dim=1).indices
    return ranked

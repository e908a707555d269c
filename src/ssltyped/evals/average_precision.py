"""Precision, recall and average precision of one class, at every threshold on its scores."""

from __future__ import annotations

import dataclasses
from typing import Optional

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """A curve with a point for each counted image, the highest score first.

    Args:
        precision: of all images with this score or a higher one.
        recall: of the same.
        scores: of the image.
        average_precision: area under the envelope of precision over recall.
    """

    precision: Float[Tensor, "N"]
    recall: Float[Tensor, "N"]
    scores: Float[Tensor, "N"]
    average_precision: float


def precision_recall(
    targets: Shaped[Tensor, "N"], scores: Float[Tensor, "N"], weights: Optional[Float[Tensor, "N"]] = None
) -> PrecisionRecall:
    """The curve of one class, in float64. With t_n = 1 for an image of the class (target above 0), ordered by score,

        precision_i = sum_{n <= i} w_n t_n / sum_{n <= i} w_n        recall_i = sum_{n <= i} w_n t_n / sum_n w_n t_n

    Images of weight 0 are left out. The average precision is sum_i (recall_i - recall_{i-1}) max_{j >= i} precision_j,
    as in Pascal VOC since 2010 (Everingham et al. 2015, "The Pascal Visual Object Classes Challenge: A Retrospective",
    section 4.1). nan without an image of the class.
    """
    if weights is not None:
        kept = weights != 0
        targets, scores, weights = targets[kept], scores[kept], weights[kept].double()
    ordered, order = scores.double().sort(descending=True, stable=True)
    weight = torch.ones_like(ordered) if weights is None else weights[order]
    found = (weight * (targets[order] > 0)).cumsum(0)
    precision, recall = found / weight.cumsum(0), found / found[-1:]
    envelope = precision.flip(0).cummax(0).values.flip(0)
    gained = torch.diff(recall, prepend=recall.new_zeros(1))
    return PrecisionRecall(precision, recall, ordered, float((gained * envelope).sum()))

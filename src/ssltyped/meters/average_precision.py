"""Precision, recall and average precision, of one class and of all, at every threshold on the scores."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.meters.gathered import GatheredMeter


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """A curve with a point for each counted image, the highest score first.

    Args:
        precision: of all images up to this one.
        recall: of the same.
        scores: of the image.
    """

    precision: Float[Tensor, "N"]
    recall: Float[Tensor, "N"]
    scores: Float[Tensor, "N"]

    @property
    def average_precision(self) -> float:
        """sum_i (recall_i - recall_{i-1}) max_{j >= i} precision_j; nan without an image of the class.

        The area under the envelope, as in Pascal VOC since 2010 (Everingham et al. 2015, "The Pascal Visual Object
        Classes Challenge: A Retrospective", section 4.1). That of scikit-learn and torchmetrics has no envelope.
        """
        envelope = self.precision.flip(0).cummax(0).values.flip(0)
        gained = torch.diff(self.recall, prepend=self.recall.new_zeros(1))
        return float((gained * envelope).sum()) if len(self.recall) else float("nan")

    def at_thresholds(self) -> PrecisionRecall:
        """Images of the same score taken together, so that the order in which they were given does not matter."""
        last = torch.ones_like(self.scores, dtype=torch.bool)
        last[:-1] = self.scores[1:] != self.scores[:-1]
        return PrecisionRecall(self.precision[last], self.recall[last], self.scores[last])


def precision_recall(
    targets: Shaped[Tensor, "N"], scores: Float[Tensor, "N"], weights: Optional[Shaped[Tensor, "N"]] = None
) -> PrecisionRecall:
    """The curve of one class, in float64. With t_n = 1 for an image of the class (target above 0), ordered by score,

        precision_i = sum_{n <= i} w_n t_n / sum_{n <= i} w_n        recall_i = sum_{n <= i} w_n t_n / sum_n w_n t_n

    Images of weight 0 are left out; of the same score the one that was given first is the first (`at_thresholds`), and
    a score that is nan counts as the lowest. Shares in [0, 1]. Not torchmetrics's curve, which knows no weights and
    squashes scores outside of [0, 1] in float32, so that large ones become the same.
    """
    if weights is not None:
        kept = weights != 0
        targets, scores, weights = targets[kept], scores[kept], weights[kept].double()
    comparable = scores.double().nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    ordered, order = comparable.sort(descending=True, stable=True)
    weight = torch.ones_like(ordered) if weights is None else weights[order]
    found = (weight * (targets[order] > 0)).cumsum(0)
    return PrecisionRecall(found / weight.cumsum(0), found / found[-1:], ordered)


class MeanAveragePrecision(GatheredMeter):
    """mAP = 100 x mean of the average precision of the classes that any image has, in percent.

    The average precision of a class is that of Pascal VOC (`average_precision.py`), computed at every threshold.
    Scores are (B K), of any scale; targets are 1, 0 and -1 (unknown: the image is left out for this class) for each
    class (B K), or one class an image (B). nan if no image has a class.
    """

    def measure(self, scores: Float[Tensor, "N K"], targets: Int[Tensor, "N *K"]) -> dict[str, float]:
        return {"mAP": float(_per_class(scores, targets).nanmean())}

    def per_class(self) -> Float[Tensor, "K"]:
        """Average precision of each class, in percent; nan for one that no image has. Over all ranks since `reset`."""
        return _per_class(*self.gathered())


def _per_class(scores: Float[Tensor, "N K"], targets: Int[Tensor, "N *K"]) -> Float[Tensor, "K"]:
    classes = scores.shape[1]
    if targets.ndim == 1:
        targets = (targets[:, None] == torch.arange(classes)).long()
    curves = [precision_recall(targets[:, k], scores[:, k], targets[:, k] >= 0) for k in range(classes)]
    return 100 * torch.tensor([curve.at_thresholds().average_precision for curve in curves], dtype=torch.float64)


MeanAveragePrecisionConf = config_for(MeanAveragePrecision)

"""Mean average precision of several classes an image."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.meters.average_precision import precision_recall
from ssltyped.meters.gathered import GatheredMeter


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

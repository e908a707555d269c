"""Top-k accuracy over an epoch and over all ranks."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.meters.topk import TopKMeter, percent
from ssltyped.types import Target


class TopKAccuracy(TopKMeter):
    """top{k} = 100 x (images whose class is among the k highest scores) / (images), in percent.

    Of an image with several classes one has to be among the k: torchmetrics knows top-k of one class an image only.
    """

    def count(self, hits: Bool[Tensor, "B k"], target: Target) -> list[Int64[Tensor, ""]]:
        images = torch.tensor(len(hits), device=hits.device)
        return [*(hits[:, :k].any(dim=1).sum() for k in self.topk), images]

    def measure(self, counts: list[int], total: int) -> dict[str, float]:
        return {f"top{k}": percent(correct, total) for k, correct in zip(self.topk, counts, strict=True)}


TopKAccuracyConf = config_for(TopKAccuracy)

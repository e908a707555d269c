"""Precision and recall of the k highest scores, over an epoch and over all ranks."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.meters.topk import TopKMeter, percent
from ssltyped.types import Target


class PrecisionAtK(TopKMeter):
    """precision_at_{k} = 100 x (classes of the images among their k highest scores) / (k x images), in percent.

    It is the micro average: of all images together. torchmetrics's `RetrievalPrecision` gives the same, and keeps
    every score for it.
    """

    def count(self, hits: Bool[Tensor, "B k"], target: Target) -> list[Int64[Tensor, ""]]:
        return [*(hits[:, :k].sum() for k in self.topk), torch.tensor(len(hits), device=hits.device)]

    def measure(self, counts: list[int], total: int) -> dict[str, float]:
        return {f"precision_at_{k}": percent(found, k * total) for k, found in zip(self.topk, counts, strict=True)}


class RecallAtK(TopKMeter):
    """recall_at_{k} = 100 x (classes of the images among their k highest scores) / (classes of the images), in percent.

    It is the micro average: of all images together, where torchmetrics's `RetrievalRecall` is the mean over images.
    nan before any class of an image.
    """

    def count(self, hits: Bool[Tensor, "B k"], target: Target) -> list[Int64[Tensor, ""]]:
        classes = (target > 0).sum() if target.ndim == 2 else torch.tensor(len(hits), device=hits.device)
        return [*(hits[:, :k].sum() for k in self.topk), classes]

    def measure(self, counts: list[int], total: int) -> dict[str, float]:
        return {f"recall_at_{k}": percent(found, total) for k, found in zip(self.topk, counts, strict=True)}


PrecisionAtKConf = config_for(PrecisionAtK)
RecallAtKConf = config_for(RecallAtK)

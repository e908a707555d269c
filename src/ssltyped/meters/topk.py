"""Accuracy, precision and recall of the k highest scores: counts, summed over batches and ranks."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, Self

import torch
from annotated_types import Gt, Len
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import config_for
from ssltyped.meters.hits import hits
from ssltyped.types import Meter, Problem, Target


class TopKMeter(Meter):
    """A measure of the k highest scores of each image, for several k.

    Scores are (B K), targets are the number of the class (B), or above 0 for each class that the image has (B K). What
    counts as a hit, also among equal scores, is said in `hits`; images with the class -1 (not known) are left out. What
    is kept and summed over ranks are counts, so that batches and ranks may differ in size. Before any image the values
    are nan. `update` raises ValueError for a k larger than the number of classes.

    Args:
        topk: the values of k.
    """

    def __init__(self, *, topk: Annotated[list[Annotated[int, Gt(0)]], Len(1)]) -> None:
        self.topk = topk
        self._counts = torch.zeros(len(topk) + 1, dtype=torch.int64)

    @classmethod
    def misfits(cls, config: Self, width: int) -> Iterable[Problem]:
        if max(config.topk) > width:
            yield Problem("topk", f"got {max(config.topk)}, and there are only {width} classes")

    @abstractmethod
    def count(self, found: Bool[Tensor, "B k"], target: Target) -> list[Int64[Tensor, ""]]:
        """What is counted of a batch for each k, then what it is divided by.

        `found` says whether the image has the class of its 1st, 2nd, ... highest score.
        """

    @abstractmethod
    def measure(self, counts: list[int], total: int) -> dict[str, float]:
        """The values from the counts of all images."""

    def update(self, output: Float[Tensor, "B K"], target: Target) -> None:
        largest, classes = max(self.topk), output.shape[1]
        if largest > classes:
            raise ValueError(f"topk has {largest}, and there are only {classes} classes")
        if target.ndim == 1:
            output, target = output[target >= 0], target[target >= 0]
        counts = torch.stack(self.count(hits(output, target, largest), target))
        # The counts move to where the scores are, once, and no batch waits for the device.
        self._counts = self._counts.to(counts.device) + counts

    def compute(self) -> dict[str, float]:
        # On the host: a rank that has seen no image does not know the device that the others count on.
        *counts, total = distributed.all_reduce_sum(self._counts.cpu()).tolist()
        return self.measure(counts, total)

    def reset(self) -> None:
        self._counts = torch.zeros_like(self._counts)


def percent(part: int, whole: int) -> float:
    """100 part / whole; nan of nothing."""
    return 100 * part / whole if whole else float("nan")


class TopKAccuracy(TopKMeter):
    """top{k} = 100 x (images whose class is among the k highest scores) / (images), in percent.

    Of an image with several classes one has to be among the k, one without any counts as missed: torchmetrics knows
    top-k of one class an image only.
    """

    def count(self, found: Bool[Tensor, "B k"], target: Target) -> list[Int64[Tensor, ""]]:
        images = torch.tensor(len(found), device=found.device)
        return [*(found[:, :k].any(dim=1).sum() for k in self.topk), images]

    def measure(self, counts: list[int], total: int) -> dict[str, float]:
        return {f"top{k}": percent(correct, total) for k, correct in zip(self.topk, counts, strict=True)}


class PrecisionAtK(TopKMeter):
    """precision_at_{k} = 100 x (classes of the images among their k highest scores) / (k x images), in percent.

    It is the micro average: of all images together. torchmetrics's `RetrievalPrecision` gives the same, and keeps
    every score for it.
    """

    def count(self, found: Bool[Tensor, "B k"], target: Target) -> list[Int64[Tensor, ""]]:
        return [*(found[:, :k].sum() for k in self.topk), torch.tensor(len(found), device=found.device)]

    def measure(self, counts: list[int], total: int) -> dict[str, float]:
        return {f"precision_at_{k}": percent(found, k * total) for k, found in zip(self.topk, counts, strict=True)}


class RecallAtK(TopKMeter):
    """recall_at_{k} = 100 x (classes of the images among their k highest scores) / (classes of the images), in percent.

    It is the micro average: of all images together, where torchmetrics's `RetrievalRecall` is the mean over images.
    nan before any class of an image.
    """

    def count(self, found: Bool[Tensor, "B k"], target: Target) -> list[Int64[Tensor, ""]]:
        classes = (target > 0).sum() if target.ndim == 2 else torch.tensor(len(found), device=found.device)
        return [*(found[:, :k].sum() for k in self.topk), classes]

    def measure(self, counts: list[int], total: int) -> dict[str, float]:
        return {f"recall_at_{k}": percent(found, total) for k, found in zip(self.topk, counts, strict=True)}


TopKAccuracyConf = config_for(TopKAccuracy)
PrecisionAtKConf = config_for(PrecisionAtK)
RecallAtKConf = config_for(RecallAtK)

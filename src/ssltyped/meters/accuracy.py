"""Top-k accuracy over an epoch and over all ranks."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Len
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import config_for
from ssltyped.types import Meter


class TopKAccuracy(Meter):
    """top{k} = 100 x (images whose class is among the k highest scores) / (images), in percent.

    Scores are (B K), targets are classes (B), or 0 and 1 for each class (B K): then one of an image's classes
    has to be among the k. What is kept and summed over ranks are counts, so that batches and ranks may differ in
    size. Before any image the values are nan. `update` raises ValueError for a k larger than the number of classes.

    Args:
        topk: the values of k.
    """

    def __init__(self, *, topk: Annotated[list[Annotated[int, Gt(0)]], Len(1)]) -> None:
        self.topk = topk
        self._counts = torch.zeros(len(topk) + 1, dtype=torch.int64)

    def update(self, output: Float[Tensor, "B K"], target: Int64[Tensor, "B *K"]) -> None:
        largest, classes = max(self.topk), output.shape[1]
        if largest > classes:
            raise ValueError(f"topk has {largest}, and there are only {classes} classes")
        ranked = output.topk(largest, dim=1).indices
        hits = target[:, None] == ranked if target.ndim == 1 else target.gather(1, ranked) > 0
        images = torch.tensor(len(output), device=output.device)
        counts = torch.stack([*(hits[:, :k].any(dim=1).sum() for k in self.topk), images])
        # The counts move to where the scores are, once, and no batch waits for the device.
        self._counts = self._counts.to(counts.device) + counts

    def compute(self) -> dict[str, float]:
        *correct, images = distributed.all_reduce_sum(self._counts).tolist()
        return {
            f"top{k}": 100 * c / images if images else float("nan") for k, c in zip(self.topk, correct, strict=True)
        }

    def reset(self) -> None:
        self._counts = torch.zeros_like(self._counts)


TopKAccuracyConf = config_for(TopKAccuracy)

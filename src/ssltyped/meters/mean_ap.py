"""Mean average precision of several classes an image."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import config_for
from ssltyped.types import Meter, Target


def average_precision(scores: Float[Tensor, "N"], target: Int8[Tensor, "N"]) -> Float[Tensor, ""]:
    """Area under max_{r' >= r} precision(r') over recall r in [0, 1], of one class; nan without an image that has it.

    target is 1 where an image has the class, 0 where not, -1 where nobody knows: the last are left out. Images of
    the same score are taken together, so that the order of the images does not matter.
    """
    known = target >= 0
    scores, order = scores[known].sort(descending=True)
    positive = (target[known][order] > 0).double()
    found = positive.cumsum(0)
    last = torch.ones_like(positive, dtype=torch.bool)
    last[:-1] = scores[1:] != scores[:-1]
    found, taken = found[last], torch.arange(1, len(scores) + 1, device=scores.device)[last]
    if len(found) == 0 or found[-1] == 0:
        return torch.full((), torch.nan, dtype=torch.float64, device=scores.device)
    precision = (found / taken).flip(0).cummax(0).values.flip(0)
    gained = torch.diff(found, prepend=found.new_zeros(1)) / found[-1]
    return (gained * precision).sum()


class MeanAveragePrecision(Meter):
    """mAP = 100 x mean of the average precision of the classes that any image has, in percent.

    The average precision of a class is the area under the monotone envelope of its precision-recall curve, as in
    Pascal VOC since 2010 (Everingham et al. 2015, "The Pascal Visual Object Classes Challenge: A Retrospective",
    section 4.1), computed at every threshold. Scores are (B K), of any scale; targets are 1, 0 and -1 (unknown: the
    image is left out for this class) for each class (B K), or one class an image (B). All scores since `reset` are
    kept, on the host, and gathered from all ranks, whose batches may differ in size. nan if no image has a class.
    """

    def __init__(self) -> None:
        self._scores: list[Float[Tensor, "B K"]] = []
        self._targets: list[Int8[Tensor, "B K"]] = []

    def update(self, output: Float[Tensor, "B K"], target: Target) -> None:
        if target.ndim == 1:
            target = torch.nn.functional.one_hot(target, output.shape[1])
        self._scores.append(output.detach().float().cpu())
        self._targets.append(target.to(torch.int8).cpu())

    def compute(self) -> dict[str, float]:
        return {"mAP": float(self.per_class().nanmean())}

    def per_class(self) -> Float[Tensor, "K"]:
        """Average precision of each class, in percent; nan for one that no image has. Over all ranks since `reset`."""
        mine = self._scores[0].shape[1] if self._scores else 0
        # A rank that has seen no image does not know the number of classes.
        classes = int(distributed.gather_no_grad(torch.tensor([mine])).max())
        scores = torch.cat([torch.zeros(0, classes), *self._scores])
        targets = torch.cat([torch.zeros(0, classes, dtype=torch.int8), *self._targets])
        scores, targets = distributed.gather_uneven(scores), distributed.gather_uneven(targets)
        each = [average_precision(scores[:, k], targets[:, k]) for k in range(classes)]
        return 100 * torch.stack(each) if each else torch.full((1,), torch.nan)

    def reset(self) -> None:
        self._scores, self._targets = [], []


MeanAveragePrecisionConf = config_for(MeanAveragePrecision)

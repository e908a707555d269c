"""Which of the highest scores of an image are of its classes: the one rule for all that counts hits."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ssltyped.types import Target


def hits(scores: Float[Tensor, "B K"], target: Target, k: int) -> Bool[Tensor, "B k"]:
    """Whether an image has the class of its 1st, 2nd, ... and k-th highest score.

    Targets are the number of the class (B), or above 0 for each class that the image has (B K). Of equal scores those
    of the image's own classes come last: a hit counts only if it is one in whichever order equal scores are taken, so
    that an output which says nothing has none (but all of k = K). An image with a score that is nan has no hit, and one
    whose class is not among the K (-1: not known) has none either.
    """
    sound = ~scores.isnan().any(dim=1, keepdim=True)
    if target.ndim == 1:
        known = (target >= 0) & (target < scores.shape[1])
        own = scores.gather(1, torch.where(known, target, 0)[:, None])
        place = torch.where(known, (scores >= own).sum(dim=1), 0)
        return (place[:, None] == torch.arange(1, k + 1, device=scores.device)) & sound
    wanted = target > 0
    own_last = wanted.to(torch.uint8).argsort(dim=1, stable=True)
    ranked = scores.gather(1, own_last).argsort(dim=1, descending=True, stable=True)[:, :k]
    return wanted.gather(1, own_last.gather(1, ranked)) & sound

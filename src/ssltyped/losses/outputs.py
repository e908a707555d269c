"""What methods ask of a model's outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


def precise(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """In float32 at least, whatever the autocast dtype."""
    return x if x.dtype == torch.float64 else x.float()


def single_output(outputs: Sequence[Tensor], method: str) -> Tensor:
    """The only output. Raises ValueError if there are more, or none."""
    if len(outputs) != 1:
        raise ValueError(f"{method} needs a model with exactly one output; it has {len(outputs)}")
    return outputs[0]


def spread(u: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """sqrt(D) x the mean standard deviation of a dimension: 1 when the rows fill the sphere, 0 for one point."""
    return u.detach().std(dim=0, correction=0).mean() * math.sqrt(u.shape[1])


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A block without autocast on the device of `x`: products of similarities are too fine for 8 bits."""
    # torch has no autocast for the tensors without numbers of a plan
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)

"""Weights by a closed formula, so that a recorded forward pass needs no stored weights."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PRIME = 1000003


def fill(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the same keys and shapes; entry k, by name, depends on name, shape and k."""
    return {key: _values(key, state[key], k) for k, key in enumerate(sorted(state))}


def _noise(count: int, k: int) -> NDArray[np.float64]:
    """`count` values in [-1, 1)."""
    j = np.arange(count, dtype=np.int64) % PRIME
    return 2 * (((7919 * j * j + 104729 * j + 31337 * k) % PRIME) / PRIME) - 1


def _values(key: str, like: Tensor, k: int) -> Tensor:
    if not like.is_floating_point():
        return torch.zeros_like(like) if key.endswith("num_batches_tracked") else like.clone()
    v = _noise(like.numel(), k).reshape(tuple(like.shape))
    return torch.from_numpy(np.asarray(_scale(key, v))).float()


def _scale(key: str, v: NDArray[np.float64]) -> NDArray[np.float64]:
    if key.endswith("running_mean"):
        return 0.1 * v
    if key.endswith("running_var"):
        return 1 + 0.2 * v
    if v.ndim < 2:
        return 1 + 0.1 * v if key.endswith("weight") else 0.05 * v
    if v.ndim == 3 and v.shape[0] == 1:
        return 0.1 * v
    gain = math.sqrt(2) if v.ndim == 4 else 1.0
    return v * math.sqrt(3.0) * math.sqrt(1.0 / (v.size // v.shape[0])) * gain

"""The one hash: the same on tensors and on arrays, and that of Python's integers, which do not wrap."""

from __future__ import annotations

import numpy as np
import torch
from losses.slow_targets import hashed

from ssltyped.hashing import mixed


def test_as_in_integers_that_do_not_wrap() -> None:
    words = np.random.default_rng(0).integers(-(2**63), 2**63, size=100)
    words[:4] = [0, 1, -1, -(2**63)]
    want = [hashed(int(word)) for word in words]
    assert mixed(words).view(np.uint64).tolist() == want
    assert [word % 2**64 for word in mixed(torch.from_numpy(words)).tolist()] == want

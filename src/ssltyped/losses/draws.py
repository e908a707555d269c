"""Random numbers that are a function of what they are for, not of which rank draws them."""

import torch
from jaxtyping import Int64
from torch import Tensor

from ssltyped.hashing import mixed

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
"""The distance of splitmix64's states, as a signed number."""


def draw(index: Int64[Tensor, "B"], count: int, below: int, stream: int) -> Int64[Tensor, "B K"]:
    """`count` numbers in [0, below) for each index, uniform and with replacement, a hash of (stream, index, place).

    The remainder of 63 bits: no number is likelier than another by more than below / 2^63.
    """
    places = torch.arange(1, count + 1, device=index.device)
    base = mixed(mixed(index) + stream)
    words: Tensor = mixed(base[:, None] + places * _GAMMA) & (2**63 - 1)
    numbers: Tensor = words % below
    return numbers

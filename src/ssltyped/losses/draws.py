"""Random numbers that are a function of what they are for, not of which rank draws them."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

# splitmix64's constants (Steele et al. 2014, OOPSLA), as signed 64-bit numbers
_GAMMA, _FIRST, _SECOND = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def draw(index: Int64[Tensor, "B"], count: int, below: int, stream: int) -> Int64[Tensor, "B K"]:
    """`count` numbers in [0, below) for each index, uniform and with replacement, a hash of (stream, index, place).

    The remainder of 63 bits: no number is likelier than another by more than below / 2^63.
    """
    places = torch.arange(1, count + 1, device=index.device)
    base = _mixed(_mixed(index) + stream)
    words: Tensor = _mixed(base[:, None] + places * _GAMMA) & (2**63 - 1)
    numbers: Tensor = words % below
    return numbers


def _mixed(x: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    """A hash of 64 bits to 64 bits; torch's integers wrap around."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Int64[Tensor, "*n"], bits: int) -> Int64[Tensor, "*n"]:
    """A shift to the right that brings in zeros: torch's copies the sign."""
    return torch.bitwise_and(x >> bits, 2 ** (64 - bits) - 1)

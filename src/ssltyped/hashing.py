"""One hash for all that is drawn as a function of numbers: the order of an epoch, the negatives of an image."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

Words = TypeVar("Words", Tensor, npt.NDArray[np.int64])


def mixed(words: Words) -> Words:
    """A hash of 64 bits to 64 bits: splitmix64's finalizer (Steele et al., OOPSLA 2014), on signed int64 that wrap."""
    words = (words ^ _shifted(words, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    words = (words ^ _shifted(words, 27)) * (0x94D049BB133111EB - 2**64)
    return words ^ _shifted(words, 31)


def _shifted(words: Words, bits: int) -> Words:
    """A shift to the right that brings in zeros: that of signed words copies the sign."""
    shifted: Words = (words >> bits) & (2 ** (64 - bits) - 1)
    return shifted

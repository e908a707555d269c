"""Which image at which place of an epoch, and the randomness of its views: pure functions, nothing is stored."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from ssltyped.hashing import mixed
from ssltyped.types import Random

ROUNDS = 6
MIN_HALF = 3
"""Bits of half a word: with less, the orders of a small set are not equally likely."""

ORDER_STREAM = 2**64 - 1
"""In the place of a view: the stream that the order of an epoch is drawn from."""


def random_of(seed: int, epoch: int, index: int, view: int) -> Random:
    """The random stream of one view of one image in one epoch.

    Philox is a cipher of a counter: the key is (seed, epoch), the upper half of the counter (view, index), so that
    streams of different keys or counters never overlap (2^128 numbers each).
    """
    key = np.array([seed % 2**64, epoch], dtype=np.uint64)
    counter = np.array([0, 0, view, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _feistel(words: Int64[np.ndarray, "P"], half: int, keys: Int64[np.ndarray, "R"]) -> Int64[np.ndarray, "P"]:
    """A bijection of [0, 4^half): each round (left, right) -> (right, left xor hash(right xor key))."""
    mask = (1 << half) - 1
    left, right = words >> half, words & mask
    for key in keys:
        left, right = right, left ^ (mixed(right ^ key) & mask)
    return (left << half) | right


def permute(positions: Int64[np.ndarray, "P"], n: int, seed: int, epoch: int) -> Int64[np.ndarray, "P"]:
    """The images at these positions of a shuffled epoch: a bijection of [0, n) keyed by (seed, epoch).

    A Feistel network on the smallest even number of bits that holds n; a result outside [0, n) is put in again
    until it lies inside ("Ciphers with arbitrary finite domains", Black and Rogaway, CT-RSA 2002, section 3:
    cycle walking). At most 4 passes on average for n > 16. Costs no memory, whatever n.
    """
    half = max(MIN_HALF, ((n - 1).bit_length() + 1) // 2)
    keys = random_of(seed, epoch, 0, ORDER_STREAM).integers(0, 2**64, size=ROUNDS, dtype=np.uint64).view(np.int64)
    words = _feistel(positions.astype(np.int64), half, keys)
    while (outside := np.flatnonzero(words >= n)).size:
        words[outside] = _feistel(words[outside], half, keys)
    return words


@dataclasses.dataclass(frozen=True)
class Sampler:
    """What each rank reads in each step, for ever.

    An epoch is a sequence of n positions, of which the first steps_per_epoch * G are trained on, where
    G = batch_size x world_size x accumulation. Batch `micro` of a step on rank r takes the positions

        s G + (micro world_size + r) batch_size + [0, batch_size),    s = step mod steps_per_epoch

    so that the images of a step, and their order, do not depend on how many ranks share the work.
    """

    num_images: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    accumulation: int = 1

    @property
    def global_batch_size(self) -> int:
        """G."""
        return self.batch_size * self.world_size * self.accumulation

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch; at least one, or nothing could ever be read."""
        return self.num_images // self.global_batch_size

    def epoch(self, step: int) -> int:
        return step // self.steps_per_epoch

    def positions(self, step: int, micro: int) -> Int64[np.ndarray, "B"]:
        """The positions of a batch in its epoch; `step` counts from the start of training."""
        first = (step % self.steps_per_epoch) * self.global_batch_size
        first += (micro * self.world_size + self.rank) * self.batch_size
        return np.arange(first, first + self.batch_size)

    def images(self, epoch: int, positions: Int64[np.ndarray, "P"]) -> Int64[np.ndarray, "P"]:
        return permute(positions, self.num_images, self.seed, epoch)

    def replacements(self, position: int) -> Iterator[int]:
        """The positions to try when the image at this one cannot be read: every G-th, from it on, around the end.

        They all leave the same rest modulo G, and no two places of a global batch do: whatever is replaced,
        a global batch never holds an image twice.
        """
        step, slot = divmod(position, self.global_batch_size)
        ways = range(slot, self.num_images, self.global_batch_size)
        return (ways[(step + k) % len(ways)] for k in range(1, len(ways)))

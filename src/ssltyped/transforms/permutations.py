"""Fixed sets of permutations that are as different from one another as possible."""

import functools
import itertools

import numpy as np
from jaxtyping import Int64

MAX_LENGTH = 9


@functools.cache
def hamming_permutations(count: int, length: int) -> Int64[np.ndarray, "N T"]:
    """`count` of the permutations of 0 .. length - 1, chosen one after the other for the largest Hamming distance.

    Starts from the identity; the next one has the largest smallest distance to all before it, ties going to the
    largest mean distance, then to the first in lexicographic order, so that the set is always the same. Noroozi and
    Favaro 2016 (arXiv 1603.09246), algorithm 1, which draws the first at random. 1000 of length 9 take a few seconds.

    Raises:
        ValueError: more permutations than there are, or a length above 9.
    """
    if not 1 <= length <= MAX_LENGTH:
        raise ValueError(f"permutations of 1 to {MAX_LENGTH} patches can be searched, not of {length}")
    every = np.array(list(itertools.permutations(range(length))), dtype=np.uint8)
    if count > len(every):
        raise ValueError(f"there are {len(every)} permutations of {length} patches, not {count}")
    chosen = [0]
    columns = np.ascontiguousarray(every.T)
    smallest, total = np.full(len(every), length, dtype=np.int64), np.zeros(len(every), dtype=np.int64)
    while len(chosen) < count:
        distance = np.zeros(len(every), dtype=np.uint8)
        for column, value in zip(columns, every[chosen[-1]], strict=True):
            distance += column != value
        smallest, total = np.minimum(smallest, distance), total + distance
        chosen.append(int(np.argmax(smallest * (length * count + 1) + total)))
    return every[chosen].astype(np.int64)

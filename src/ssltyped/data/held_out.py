"""Which images of a labelled set are held out, the same on every machine: by a hash of their names."""

import hashlib
from collections.abc import Callable
from pathlib import PurePath

import numpy as np
from jaxtyping import Bool, Int64


def held_out(
    labels: Int64[np.ndarray, "N"], name: Callable[[int], str], share: float, salt: str
) -> Bool[np.ndarray, "N"]:
    """Which of N images are held out: of each class the `share` (rounded) with the lowest hashes of their names.

    Of a class with two images or more at least one is held out, and one is not; one without another is not. A name
    counts by its last two parts (folder and file), so that it does not matter where the images lie, nor in which
    order; of equal names the earlier image comes first. `salt` makes another choice of the same images.
    """
    hashes = np.array([_hash(name(index), salt) for index in range(len(labels))], dtype=np.uint64)
    order = np.lexsort((np.arange(len(labels)), hashes, labels))
    found = np.zeros(len(labels), dtype=bool)
    starts: list[int] = np.flatnonzero(np.diff(labels[order], prepend=labels[order][:1] - 1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(labels)][: len(starts)], strict=True):
        count = end - start
        found[order[start : start + min(max(round(share * count), 1), count - 1)]] = True
    return found


def _hash(name: str, salt: str) -> int:
    text = "/".join((salt, *PurePath(name).parts[-2:]))
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "big")

"""Sets of permutations: as different from one another as the search can make them."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from jaxtyping import Int64

from ssltyped.transforms.permutations import hamming_permutations


def distances(rows: Int64[np.ndarray, "N T"]) -> Int64[np.ndarray, "N N"]:
    """Hamming distances of all pairs; a row to itself counts as its length."""
    found: Int64[np.ndarray, "N N"] = (rows[:, None] != rows[None]).sum(axis=2)
    np.fill_diagonal(found, rows.shape[1])
    return found


def slow(count: int, length: int) -> list[list[int]]:
    """The definition, one candidate after the other."""
    every = [list(row) for row in itertools.permutations(range(length))]
    chosen = [every[0]]
    while len(chosen) < count:
        best, wanted = (-1, -1), every[0]
        for row in every:
            if row not in chosen:
                to_all = [sum(a != b for a, b in zip(row, other, strict=True)) for other in chosen]
                if (min(to_all), sum(to_all)) > best:
                    best, wanted = (min(to_all), sum(to_all)), row
        chosen.append(wanted)
    return chosen


@pytest.mark.parametrize(("count", "length"), [(1, 1), (2, 2), (6, 3), (10, 4), (24, 4), (30, 5)])
def test_is_what_the_definition_says(count: int, length: int) -> None:
    assert hamming_permutations(count, length).tolist() == slow(count, length)


def test_rows_are_different_permutations() -> None:
    rows = hamming_permutations(64, 7)
    assert rows.shape == (64, 7)
    assert (np.sort(rows, axis=1) == np.arange(7)).all()
    assert len({tuple(row) for row in rows.tolist()}) == 64
    assert rows[0].tolist() == list(range(7))


def test_farther_apart_than_random_sets() -> None:
    """In the smallest distance and in the mean of the distances to the nearest one."""
    ours = distances(hamming_permutations(40, 9))
    random = np.random.default_rng(0)
    others = [distances(np.stack([random.permutation(9) for _ in range(40)])) for _ in range(20)]
    assert ours.min() == 7
    assert ours.min() > max(other.min() for other in others)
    assert ours.min(axis=1).mean() > max(other.min(axis=1).mean() for other in others) + 1


def test_a_larger_set_starts_with_the_smaller_one_as_far_as_can_be() -> None:
    """The greedy search never looks ahead, but for ties: the smallest distances of the first rows are the same."""
    few, many = hamming_permutations(10, 5), hamming_permutations(50, 5)
    assert distances(few).min() == distances(many[:10]).min()
    assert distances(many).min() <= distances(few).min()


@pytest.mark.parametrize(
    ("count", "length", "message"),
    [
        (7, 3, "there are 6 permutations of 3 patches, not 7"),
        (4, 10, "permutations of 1 to 9 patches can be searched, not of 10"),
        (1, 0, "not of 0"),
    ],
)
def test_what_is_refused(count: int, length: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hamming_permutations(count, length)


def test_a_thousand_of_nine_take_seconds() -> None:
    """As many as the paper uses."""
    hamming_permutations.cache_clear()
    start = time.perf_counter()
    rows = hamming_permutations(1000, 9)
    assert time.perf_counter() - start < 30
    assert len({tuple(row) for row in rows.tolist()}) == 1000
    assert distances(rows).min() >= 5
    assert distances(rows).mean() >= 8

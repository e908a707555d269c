"""What suits few images: by hand."""

from __future__ import annotations

import dataclasses

import pytest
from facts import FACTS

from ssltyped.types import fewer, queue


@pytest.mark.parametrize(
    ("images", "most", "each", "count"),
    [(1400, 3000, 5, 280), (1_281_167, 3000, 5, 3000), (1004, 3000, 5, 200), (3, 3000, 5, 2), (15, 3, 5, 3)],
)
def test_one_for_some_images(images: int, most: int, each: int, count: int) -> None:
    (one,) = fewer("k", most, each, dataclasses.replace(FACTS, num_images=images))
    assert (one.field, one.value, one.default) == ("k", count, True)
    (several,) = fewer("k", most, each, dataclasses.replace(FACTS, num_images=images), several=3)
    assert several.value == [count] * 3


@pytest.mark.parametrize(
    ("images", "step", "size"),
    [
        (1400, 100, 300),
        (1400, 350, 350),
        (1400, 351, 351),
        (300, 100, 100),
        (1_281_167, 256, 65536),
        (10_000, 96, 2496),
    ],
)
def test_a_queue_is_whole_steps(images: int, step: int, size: int) -> None:
    (one,) = queue("queue_size", 65536, 4, dataclasses.replace(FACTS, num_images=images, batch_size=step))
    assert one.value == size
    assert size % step == 0


def test_nothing_follows_from_images_that_are_not_here() -> None:
    assert not list(fewer("k", 10, 5, dataclasses.replace(FACTS, num_images=None)))
    assert not list(queue("k", 10, 5, dataclasses.replace(FACTS, num_images=None)))

"""Random numbers that no rank owns."""

from __future__ import annotations

import torch
from losses.slow_targets import drawn

from ssltyped.losses.draws import draw


def test_as_in_integers_that_do_not_wrap() -> None:
    index = torch.tensor([0, 1, 7, 1_281_166, 2**40])
    got = draw(index, 9, 1_281_167, stream=5_000_000)
    assert got.tolist() == [drawn(int(i), 9, 1_281_167, 5_000_000) for i in index]


def test_all_numbers_are_equally_likely() -> None:
    below, count = 50, 4000
    numbers = draw(torch.arange(40), count, below, stream=3)
    assert numbers.min() == 0
    assert numbers.max() == below - 1
    expected = 40 * count / below
    squares = ((torch.bincount(numbers.flatten(), minlength=below) - expected) ** 2 / expected).sum()
    assert squares < 120, "chi squared with 49 degrees of freedom: above 120 once in ten million"


def test_streams_and_images_differ_and_repeat() -> None:
    index = torch.arange(4)
    first = draw(index, 64, 1000, stream=1)
    assert torch.equal(first, draw(index, 64, 1000, stream=1))
    assert (first != draw(index, 64, 1000, stream=2)).float().mean() > 0.95
    assert (first[0] != first[1]).float().mean() > 0.95
    assert torch.equal(draw(index[2:], 64, 1000, stream=1), first[2:]), "of the image, not of its place"

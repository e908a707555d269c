"""What counts as a hit: against all orders of equal scores, and for scores and classes that are not known."""

import math
from itertools import pairwise, permutations

import pytest
import torch

from ssltyped.meters.hits import hits


def worst(scores: list[float], classes: set[int], k: int) -> int:
    """The fewest classes of the image among the k highest scores, over all orders that the scores allow."""
    orders = [o for o in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in pairwise(o))]
    return min(len(classes & set(order[:k])) for order in orders)


@pytest.mark.parametrize("levels", [1, 2, 3, 6])
def test_hits_are_those_of_the_worst_order_of_equal_scores(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    for _ in range(20):
        scores = torch.randint(levels, (1, 5), generator=generator).float()
        several = torch.randint(2, (1, 5), generator=generator)
        one = torch.randint(5, (1,), generator=generator)
        for k in range(1, 6):
            of_one, of_several = hits(scores, one, k), hits(scores, several, k)
            assert of_one.shape == of_several.shape == (1, k)
            assert int(of_one.sum()) == worst(scores[0].tolist(), {int(one)}, k)
            assert int(of_several.sum()) == worst(scores[0].tolist(), set(several[0].nonzero()[:, 0].tolist()), k)


def test_a_class_and_its_row_are_the_same() -> None:
    scores = torch.randn(9, 7, generator=torch.Generator().manual_seed(0)).round()
    target = torch.arange(9) % 7
    assert torch.equal(hits(scores, target, 4), hits(scores, torch.eye(7)[target], 4))


@pytest.mark.parametrize("lost", [0, 2])
def test_scores_that_are_nan_give_no_hit(lost: int) -> None:
    scores = torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 9.0]])
    scores[0, lost] = math.nan
    for target in (torch.tensor([2, 2]), torch.tensor([[0, 0, 1]] * 2)):
        assert hits(scores, target, 3).any(dim=1).tolist() == [False, True]


def test_a_class_that_is_not_known_is_no_hit() -> None:
    assert not hits(torch.eye(3), torch.tensor([-1, 3, 7]), 3).any()


def test_no_images() -> None:
    assert hits(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 2).shape == (0, 2)
    assert hits(torch.zeros(0, 3), torch.zeros(0, 3), 2).shape == (0, 2)

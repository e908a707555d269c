"""Towers side by side."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from facts import FACTS
from heads.contract import waves

from ssltyped.heads.siamese import SiameseConcatHead, SiameseConcatHeadConf


def test_row_b_holds_the_views_of_image_b_in_order() -> None:
    """Rows come view by view: feature d of view t of image b is 100 t + 10 b + d."""
    rows = torch.tensor([[100.0 * t + 10 * b + d for d in range(2)] for t in range(3) for b in range(4)])
    head = SiameseConcatHead(num_towers=3, in_dim=2)
    wanted = [[100.0 * t + 10 * b + d for t in range(3) for d in range(2)] for b in range(4)]
    assert head(rows).tolist() == wanted
    assert (head.out_dim, list(head.out_dims)) == (6, [6])
    assert not list(head.parameters())


def test_gradient_goes_back_to_its_row() -> None:
    rows = waves((6, 2)).requires_grad_()
    SiameseConcatHead(num_towers=3, in_dim=2)(rows)[1, 2:4].sum().backward()
    assert rows.grad is not None
    assert rows.grad.tolist() == [[0.0, 0.0]] * 3 + [[1.0, 1.0]] + [[0.0, 0.0]] * 2, "view 1 of image 1"


def test_one_tower_changes_nothing_and_meta() -> None:
    rows = waves((6, 2))
    assert torch.equal(SiameseConcatHead(num_towers=1, in_dim=2)(rows), rows)
    assert tuple(SiameseConcatHead(num_towers=3, in_dim=2)(rows.to("meta")).shape) == (2, 6)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be built without in_dim"):
        SiameseConcatHead(num_towers=3)
    with pytest.raises(ValueError, match="7 rows are no multiple of num_towers=3"):
        SiameseConcatHead(num_towers=3, in_dim=2)(waves((7, 2)))


@pytest.mark.parametrize(("towers", "fine"), [(9, True), (1, True), (10, False), (2, False)])
def test_as_many_towers_as_an_input_has_views(towers: int, fine: bool) -> None:
    facts = dataclasses.replace(FACTS, inputs={"images": 1, "patches": 9}, num_views=10)
    problems = list(SiameseConcatHead.problems(SiameseConcatHeadConf(num_towers=towers), facts))
    assert [str(problem) for problem in problems] == (
        [] if fine else [f"num_towers: got {towers}; the views of an image are 1 of 'images', 9 of 'patches'"]
    )
    assert not list(SiameseConcatHead.problems(SiameseConcatHeadConf(num_towers=2), FACTS)), "one input of 2 views"

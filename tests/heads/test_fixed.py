"""Heads without weights: what comes as it is, windows of maps by hand, towers side by side, and what is refused."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from facts import FACTS
from heads.contract import waves
from torch import Tensor

from ssltyped.heads.fixed import IdentityHead, PoolHead, PoolHeadConf, Pooling, SiameseConcatHead, SiameseConcatHeadConf


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 4)])
def test_identity(shape: tuple[int, ...]) -> None:
    head = IdentityHead(in_dim=3)
    x = torch.randn(shape)
    assert head(x) is x
    assert head.out_dim == 3
    assert list(head.parameters()) == []


def test_building_without_in_dim_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be built without in_dim"):
        IdentityHead()


def by_hand(x: Tensor, windows: list[tuple[int, int]], pooling: Pooling) -> Tensor:
    """The mean or the maximum of windows [start, end) in both directions, cut off at the border."""
    kind = torch.mean if pooling is Pooling.AVERAGE else torch.amax
    rows = [[kind(x[:, :, a:b, c:d], dim=(2, 3)) for c, d in windows] for a, b in windows]
    return torch.stack([torch.stack(row, dim=2) for row in rows], dim=2)


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize(
    ("size", "options", "windows"),
    [
        (1, {}, [(0, 7)]),
        (2, {}, [(0, 4), (3, 7)]),
        (3, {}, [(0, 3), (2, 5), (4, 7)]),
        (7, {}, [(i, i + 1) for i in range(7)]),
        (2, {"kernel_size": 3}, [(0, 3), (3, 6)]),
        (3, {"kernel_size": 3, "stride": 2}, [(0, 3), (2, 5), (4, 7)]),
    ],
)
def test_windows(pooling: Pooling, size: int, options: dict[str, int], windows: list[tuple[int, int]]) -> None:
    x = waves((2, 3, 7, 7))
    kept = PoolHead(size=size, in_dim=3, pooling=pooling, flatten=False, **options)  # type: ignore[arg-type]  # by name
    torch.testing.assert_close(kept(x), by_hand(x, windows, pooling))
    flat = PoolHead(size=size, in_dim=3, pooling=pooling, **options)  # type: ignore[arg-type]  # by name
    assert torch.equal(flat(x), kept(x).flatten(1))
    assert flat.out_dim == flat(x).shape[1] == kept.out_dim == 3 * size**2


def test_padding() -> None:
    """Zeros count in a mean; in a maximum the border does not."""
    x = torch.full((1, 1, 2, 2), -1.0)
    mean = PoolHead(size=2, in_dim=1, kernel_size=2, padding=1)
    assert mean(x).tolist() == [[-0.25] * 4]
    largest = PoolHead(size=2, in_dim=1, kernel_size=2, padding=1, pooling=Pooling.MAX)
    assert largest(x).tolist() == [[-1.0] * 4]


def test_nothing_to_learn_and_a_gradient_through() -> None:
    head = PoolHead(size=2, in_dim=3)
    x = waves((2, 3, 4, 4)).requires_grad_()
    head(x).sum().backward()
    assert not list(head.parameters())
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full_like(x, 0.25))
    with torch.device("meta"):
        assert tuple(PoolHead(size=2, in_dim=3)(torch.empty(2, 3, 4, 4)).shape) == (2, 12)


def test_a_result_may_be_higher_than_wide() -> None:
    maps = waves((2, 3, 7, 5))
    head = PoolHead(size=(3, 1), in_dim=3, flatten=False)
    assert torch.equal(head(maps), torch.nn.functional.adaptive_avg_pool2d(maps, (3, 1)))
    assert head.out_dim == 9


def test_windows_that_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be built without in_dim"):
        PoolHead(size=1)
    with pytest.raises(ValueError, match=r"a map of \(7, 7\) gives 3 x 3, not size 2 x 2"):
        PoolHead(size=2, in_dim=3, kernel_size=3, stride=2)(waves((2, 3, 7, 7)))
    for options in ({"stride": 2}, {"padding": 1}):
        make = partial(PoolHeadConf, size=2, **options)  # type: ignore[arg-type]  # by name
        (problem,) = PoolHead.problems(make(), FACTS)
        assert (problem.path, "no effect without kernel_size" in problem.message) == ("stride", True)
        assert not list(PoolHead.problems(make(kernel_size=3), FACTS))


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


def test_towers_that_are_refused() -> None:
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

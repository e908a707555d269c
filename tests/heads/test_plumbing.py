"""Heads that pass features on: as they come, windows of maps by hand, towers, heads in a row, and what is refused."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from facts import FACTS
from heads.contract import check_head, waves
from torch import Tensor

from ssltyped.config import ConfigError, build
from ssltyped.config.resolve import resolve
from ssltyped.heads.mlp import EvalMLPHeadConf, MLPHead, MLPHeadConf
from ssltyped.heads.plumbing import (
    HeadSequence,
    HeadSequenceConf,
    IdentityHead,
    PoolHead,
    PoolHeadConf,
    Pooling,
    SiameseConcatHead,
    SiameseConcatHeadConf,
)
from ssltyped.heads.prototypes import MSNHead, PrototypesHead, PrototypesHeadConf
from ssltyped.types import Facts, Head


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


NINE = dataclasses.replace(FACTS, num_views=9, crop_sizes=(8,) * 9)


def nine(_: object) -> Facts:
    return NINE


def test_one_after_the_other() -> None:
    torch.manual_seed(0)
    pool, mlp = PoolHead(size=2, in_dim=3), MLPHead(in_dim=12, dims=[5])
    head = HeadSequence(heads=[pool, mlp], in_dim=3)
    x = waves((4, 3, 6, 6))
    assert torch.equal(head(x), mlp(pool(x)))
    assert (head.in_dim, head.out_dim, list(head.out_dims)) == (3, 5, [5])
    assert list(head.state_dict()) == ["heads.1.layers.0.weight", "heads.1.layers.0.bias"]


def test_the_last_may_have_several_outputs() -> None:
    def make(in_dim: int) -> Head:
        last = PrototypesHead(in_dim=6, dims=[4], num_prototypes=[5, 3])
        return HeadSequence(heads=[MLPHead(in_dim=in_dim, dims=[6]), last], in_dim=in_dim)

    check_head(make, waves((7, 8)), [(7, 4), (7, 5), (7, 3)])


def test_another_may_have_one_in_a_list() -> None:
    head = HeadSequence(
        heads=[MSNHead(in_dim=4, num_prototypes=6, hidden_dim=4, embedding_dim=3), IdentityHead(in_dim=6)],
        in_dim=4,
    )
    assert tuple(head(waves((2, 4))).shape) == (2, 6)
    with pytest.raises(ValueError, match=r"heads\.0 has 2 outputs; only the last head may"):
        HeadSequence(
            heads=[PrototypesHead(in_dim=4, dims=[4], num_prototypes=[5]), MLPHead(in_dim=4, dims=[2])], in_dim=4
        )


def test_widths_that_do_not_follow() -> None:
    with pytest.raises(ValueError, match=r"heads\.1 has in_dim 7; heads\.0 gives 12"):
        HeadSequence(heads=[PoolHead(size=2, in_dim=3), MLPHead(in_dim=7, dims=[5])], in_dim=3)


def test_widths_are_inferred_through_the_chain() -> None:
    """Towers of 9 x 16, an MLP to 24 and 8, prototypes: each width from the one before."""
    chain = [
        MLPHeadConf(dims=[16]),
        SiameseConcatHeadConf(num_towers=9),
        MLPHeadConf(dims=[24, 8]),
        PrototypesHeadConf(dims=[4], num_prototypes=[5]),
    ]
    resolution = resolve(HeadSequenceConf(heads=[*chain], in_dim=32), nine)
    assert [head.in_dim for head in resolution.config.heads] == [32, 16, 144, 8]
    rules = {row.field: row.rule for row in resolution.rows}
    assert rules["heads.2.in_dim"] == "width of what heads.1 gives"
    assert rules["heads.0.in_dim"] == "width of the feature that the first head reads"
    built = build(resolution.config)
    outputs = built(waves((18, 32)))
    assert [tuple(output.shape) for output in outputs] == [(2, 4), (2, 5)]


def test_chains_in_chains() -> None:
    inner = HeadSequenceConf(heads=[PoolHeadConf(size=2, flatten=False), EvalMLPHeadConf(dims=[6], in_channels=3)])
    resolution = resolve(HeadSequenceConf(heads=[inner, MLPHeadConf(dims=[2])], in_dim=3), nine)
    assert {row.field: row.value for row in resolution.rows} == {
        "heads.0.in_dim": 3,
        "heads.0.heads.0.in_dim": 3,
        "heads.0.heads.1.in_dim": 12,
        "heads.1.in_dim": 6,
    }
    assert tuple(build(resolution.config)(waves((4, 3, 6, 6))).shape) == (4, 2)


def test_nothing_is_inferred_without_a_width() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(HeadSequenceConf(heads=[MLPHeadConf(dims=[16]), MLPHeadConf(dims=[4])]), nine)
    assert [problem.path for problem in caught.value.problems] == ["in_dim", "heads.0.in_dim", "heads.1.in_dim"]


def test_a_width_that_contradicts_is_named() -> None:
    chain = HeadSequenceConf(heads=[MLPHeadConf(dims=[16]), MLPHeadConf(dims=[4], in_dim=15)], in_dim=8)
    with pytest.raises(ConfigError, match=r"heads\.1\.in_dim: got 15, but 16 follows from the rest"):
        resolve(chain, nine)

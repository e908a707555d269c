"""Heads in a row: widths that follow from one another, by hand and by inference."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from facts import FACTS
from heads.contract import check_head, waves

from ssltyped.config import ConfigError, build
from ssltyped.config.resolve import resolve
from ssltyped.heads.fixed import IdentityHead, PoolHead, PoolHeadConf, SiameseConcatHeadConf
from ssltyped.heads.mlp import EvalMLPHeadConf, MLPHead, MLPHeadConf
from ssltyped.heads.prototypes import MSNHead, PrototypesHead, PrototypesHeadConf
from ssltyped.heads.sequence import HeadSequence, HeadSequenceConf
from ssltyped.types import Facts, Head

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

"""Wiring: every way that VISSL has, and where each of its heads is in ours."""

from typing import Optional

import pytest
import torch

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.resolve import Row
from ssltyped.heads.mlp import EvalMLPHead, MLPHead
from ssltyped.heads.plumbing import HeadSequence, PoolHead
from ssltyped.interop.vissl.settings import Settings
from ssltyped.interop.vissl.wiring import Wired, wiring
from ssltyped.interop.vissl.yaml import Tree, Value
from ssltyped.model.model import Passes
from ssltyped.types import Head
from ssltyped.weights.vissl import Leaf

DIMS = {"conv1": 4, "res5": 8, "flatten": 8}
A: Value = ["mlp", {"dims": [8, 6]}]
B: Value = ["mlp", {"dims": [6, 5]}]
SIAMESE: Value = ["siamese_concat_view", {"num_towers": 2}]
AFTER: Value = ["mlp", {"dims": [12, 5]}]


def wired(heads: list[Value], rows: Optional[list[Row]] = None, **model: Value) -> Wired:
    section = Settings({"HEAD": {"PARAMS": heads}, **model}, "config.MODEL", set())
    return wiring(section, DIMS, "flatten", [] if rows is None else rows)


def evaluated(heads: list[Value], pools: list[Value], **more: Value) -> Wired:
    evaluation: Tree = {"EVAL_MODE_ON": True, "LINEAR_EVAL_FEAT_POOL_OPS_MAP": pools, **more}
    return wired(heads, FEATURE_EVAL_SETTINGS=evaluation)


def built(head: Head, kind: type[Head]) -> Head:
    made = config.build(head)
    assert isinstance(made, kind)
    return made


def reads(found: Wired) -> dict[str, tuple[Optional[str], Optional[str]]]:
    """Feature and input of each head."""
    return {name: (head.feature, head.input) for name, head in found.heads.items()}


def test_one_head_reads_the_default_feature_of_all_views() -> None:
    found = wired([A])
    assert (reads(found), found.passes) == ({"head": ("flatten", None)}, Passes.SIZE)
    assert found.leaves == (Leaf("heads.head", "heads.0", "mlp"),)
    built(found.heads["head"], MLPHead)


def test_several_heads_on_one_feature_are_one_in_a_row() -> None:
    found = wired([A, SIAMESE, AFTER])
    assert len(found.heads) == 1
    assert found.leaves == (
        Leaf("heads.head.heads.0", "heads.0", "mlp"),
        Leaf("heads.head.heads.1", "heads.1", "siamese_concat_view"),
        Leaf("heads.head.heads.2", "heads.2", "mlp"),
    )
    sequence = built(found.heads["head"], HeadSequence)
    assert (sequence.in_dim, sequence.out_dim) == (8, 5)


def test_a_nested_list_is_a_head_in_a_row_also_among_others() -> None:
    assert wired([[A, B]]).leaves == (
        Leaf("heads.head.heads.0", "heads.0.0", "mlp"),
        Leaf("heads.head.heads.1", "heads.0.1", "mlp"),
    )
    assert wired([[A], B]).leaves == (
        Leaf("heads.head.heads.0.heads.0", "heads.0.0", "mlp"),
        Leaf("heads.head.heads.1", "heads.1", "mlp"),
    )


def test_more_than_a_name_and_settings_says_nothing_and_that_is_said() -> None:
    rows: list[Row] = []
    wired([["mlp", {"dims": [8, 6]}, {"use_relu": True}]], rows)
    (row,) = rows
    assert (row.field, row.value) == ("config.MODEL.HEAD.PARAMS.0", ["mlp", {"dims": [8, 6]}])


def test_heads_may_read_inputs_and_features_by_name() -> None:
    found = wired([[A, SIAMESE, AFTER], A], MULTI_INPUT_HEAD_MAPPING=[["patches", ["res5"]], ["images", ["flatten"]]])
    assert reads(found) == {"patches": ("res5", "patches"), "images": ("flatten", "images")}
    assert [leaf.theirs for leaf in found.leaves] == ["heads.0.0", "heads.0.1", "heads.0.2", "heads.1"]
    parts = [f"heads.patches.heads.{number}" for number in range(3)]
    assert [leaf.ours for leaf in found.leaves] == [*parts, "heads.images"]


def test_heads_that_read_the_same_have_names_of_their_own() -> None:
    pools: list[Value] = [["flatten", ["Identity", []]]] * 3
    found = evaluated([["mlp", {"dims": [8, 3]}]] * 3, pools)
    assert list(found.heads) == ["flatten", "flatten_2", "flatten_3"]


def test_one_head_for_several_inputs_reads_the_feature_of_the_first() -> None:
    mapping: list[Value] = [
        ["global_views", {"feat_names": ["res5"], "additional_keys": ["mask"]}],
        ["local_views", {"feat_names": ["flatten"]}],
    ]
    found = wired([A], MULTI_INPUT_HEAD_MAPPING=mapping)
    assert reads(found) == {"head": ("res5", None)}
    assert found.feature_of == {"global_views": "res5", "local_views": "flatten"}


def test_every_crop_may_pass_alone() -> None:
    assert wired([A], SINGLE_PASS_EVERY_CROP=True).passes is Passes.VIEW


def test_without_heads_the_feature_is_the_output() -> None:
    assert wired([]) == Wired({}, (), Passes.SIZE, extra=("flatten",))
    alone: Tree = {"EVAL_MODE_ON": True, "EXTRACT_TRUNK_FEATURES_ONLY": True}
    assert wired([A], FEATURE_EVAL_SETTINGS=alone).heads == {}


def test_a_pooled_feature_is_what_torch_pools() -> None:
    heads: list[Value] = [["eval_mlp", {"in_channels": 4, "dims": [36, 3]}], ["mlp", {"dims": [8, 3]}]]
    pools: list[Value] = [["conv1", ["AvgPool2d", [[4, 4], 2, 1]]], ["flatten", ["Identity", []]]]
    found = evaluated(heads, pools, SHOULD_FLATTEN_FEATS=False)
    assert reads(found) == {"conv1": ("conv1", None), "flatten": ("flatten", None)}
    assert found.leaves == (
        Leaf("heads.conv1.heads.1", "heads.0", "eval_mlp"),
        Leaf("heads.flatten", "heads.1", "mlp"),
    )
    sequence = built(found.heads["conv1"], HeadSequence)
    assert isinstance(sequence, HeadSequence)
    pool, head = sequence.heads
    assert isinstance(pool, PoolHead)
    assert isinstance(head, EvalMLPHead)
    feature = torch.randn(2, 4, 6, 6)
    assert torch.equal(pool(feature), torch.nn.AvgPool2d((4, 4), 2, 1)(feature))
    assert sequence(feature).shape == (2, 3)


@pytest.mark.parametrize(
    ("operation", "reference"),
    [
        (["AdaptiveAvgPool2d", [[2, 2]]], torch.nn.AdaptiveAvgPool2d(2)),
        (["AdaptiveMaxPool2d", [2]], torch.nn.AdaptiveMaxPool2d(2)),
        (["MaxPool2d", [3]], torch.nn.MaxPool2d(3)),
        (["AvgPool2d", [3]], torch.nn.AvgPool2d(3)),
        (["AdaptiveAvgPool2d", [[4, 1]]], torch.nn.AdaptiveAvgPool2d((4, 1))),
    ],
)
def test_every_operation_pools_as_that_of_torch(operation: list[Value], reference: torch.nn.Module) -> None:
    found = evaluated([["mlp", {"dims": [32, 3]}]], [["res5", operation]])
    sequence = built(found.heads["head"], HeadSequence)
    assert isinstance(sequence, HeadSequence)
    feature = torch.randn(2, 8, 6, 6)
    assert torch.equal(sequence.heads[0](feature), reference(feature).flatten(1))


def test_a_map_may_be_read_as_it_is() -> None:
    found = evaluated([["mlp", {"dims": [32, 3]}]], [["res5", ["Identity", []]]])
    sequence = built(found.heads["head"], HeadSequence)
    feature = torch.randn(2, 8, 2, 2)
    assert isinstance(sequence, HeadSequence)
    assert torch.equal(sequence.heads[0](feature), feature.flatten(1))


@pytest.mark.parametrize(
    ("heads", "pools", "message"),
    [
        ([["mlp", {"dims": [32, 3]}]], [["res5", ["AvgPool2d", [[2, 1]]]]], "windows are square here"),
        (
            [["mlp", {"dims": [32, 3]}]],
            [["res5", ["AdaptiveAvgPool2d", [[3, 3]]]]],
            "gives 3 x 3 of 8 channels, and its head reads 32",
        ),
        ([["mlp", {"dims": [24, 3]}]], [["res5", ["AvgPool2d", [2]]]], "no square of 8 channels"),
        ([["mlp", {"dims": [32, 3]}]], [["res5", ["LPPool2d", [2]]]], "want AvgPool2d"),
        ([A], [["res5", "Identity"]], "want [FEATURE"),
        ([A, A], [["res5", ["Identity", []]]], "1 features for 2 heads"),
    ],
)
def test_mistakes_of_pooling_are_named(heads: list[Value], pools: list[Value], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(evaluated(heads, pools).heads["head"], HeadSequence)
    assert message in str(caught.value)


def test_other_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="2 inputs for 3 heads"):
        wired([A, A, A], MULTI_INPUT_HEAD_MAPPING=[["a", ["res5"]], ["b", ["res5"]]])
    with pytest.raises(ConfigError, match=r"want \[INPUT, \[FEATURE\]\]"):
        wired([A], MULTI_INPUT_HEAD_MAPPING=[["a", ["res5", "flatten"]]])
    with pytest.raises(ConfigError, match=r"PARAMS\.1: is empty"):
        wired([A, []])
    with pytest.raises(ConfigError, match="features without heads"):
        evaluated([], [["res5", ["Identity", []]]], EXTRACT_TRUNK_FEATURES_ONLY=True)

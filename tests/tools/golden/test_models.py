"""The adapters of recorded models: each kind of disagreement is seen; `test_runner` has the cases, which all agree."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue, TypeAdapter
from torch import Tensor

from tools.golden.arrays import Arrays, Tolerance, Tree, differences
from tools.golden.fill import fill
from tools.golden.models import (
    model_forward,
    train_steps,
    trunk_listing,
)

GOLDEN = Path(__file__).parents[2] / "golden"
CONFIGS = GOLDEN / "vissl_configs"
ARRAYS = Arrays(GOLDEN / "public")

Case = dict[str, JsonValue]
SMALL = ("resnet18_w1", "vit_tiny64", "alexnet_deepcluster")


@cache
def cases(file: str) -> list[Case]:
    text = json.loads((GOLDEN / "public" / file).read_text())
    return TypeAdapter(list[Case]).validate_python(text["cases"])


def array(ref: JsonValue) -> Tensor:
    return cast(Tensor, ARRAYS.tree(ref))


def listing(variant: str) -> Case:
    return copy.deepcopy(next(case for case in cases("trunks_public.json") if case["variant"] == variant))


@pytest.mark.parametrize("variant", [*SMALL, "beit_default", "swin_tiny", "mobilenetv3_tv"])
def test_a_recorded_listing_agrees(variant: str) -> None:
    assert trunk_listing(listing(variant), CONFIGS) == []


def test_each_kind_of_disagreement_with_a_listing_is_seen() -> None:
    case = listing("resnet18_w1")
    expected = TypeAdapter(dict[str, JsonValue]).validate_python(case["expected"])
    state = TypeAdapter(dict[str, JsonValue]).validate_python(expected["state_dict"])
    shapes = TypeAdapter(dict[str, JsonValue]).validate_python(expected["feature_shapes_batch1"])
    state["_feature_blocks.conv1.weight"] = [64, 3, 3, 3]
    state["_feature_blocks.new"] = [1]
    state.pop("_feature_blocks.bn1.running_mean")
    shapes["flatten"] = [1, 513]
    case["expected"] = {"num_params": 5, "num_trainable": 6, "state_dict": state, "feature_shapes_batch1": shapes}
    assert trunk_listing(case, CONFIGS) == [
        "_feature_blocks.conv1.weight: [64, 3, 7, 7], recorded [64, 3, 3, 3]",
        "_feature_blocks.new: None, recorded [1]",
        "_feature_blocks.bn1.running_mean: not recorded",
        "num_params: 11176512, recorded 5",
        "num_trainable: 11176512, recorded 6",
        "flatten: the shape [1, 512], recorded [1, 513]",
    ]
    case["overrides"] = ["config=pretrain/none"]
    assert "there is no such file" in trunk_listing(case, CONFIGS)[0]


def test_another_fill_is_another_result() -> None:
    case = next(case for case in cases("index.json") if case["name"] == "forward_simclr")
    got = model_forward(case, array, CONFIGS, lambda state: {key: 2 * value for key, value in fill(state).items()})
    wrong = list(differences(ARRAYS.tree(case["expected"]), cast(Tree, got), Tolerance(rtol=2e-3, atol=1e-4)))
    assert wrong


def test_what_was_set_on_the_loss_counts() -> None:
    case = copy.deepcopy(next(case for case in cases("index.json") if case["name"] == "train_swav"))
    params = TypeAdapter(dict[str, JsonValue]).validate_python(case["params"])
    outcome = train_steps(case, array, CONFIGS, fill)
    params["loss_overrides_after_inference"] = {"num_crops": 3, "queue": {"start_iter": 2}, "crops_for_assign": [0, 2]}
    other = train_steps({**case, "params": params}, array, CONFIGS, fill)
    first, second = cast(Tensor, outcome["loss_step0"]), cast(Tensor, other["loss_step0"])
    assert not first.isclose(second)

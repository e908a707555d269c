"""Configs from shapes, and the same config again from what is printed of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor
from weights.test_export import TRUNKS, VIT

from recipes.quickstart import recipe
from ssltyped import build, config
from ssltyped.trunks.alexnet import AlexNetConf, AlexNetVariant
from ssltyped.trunks.regnet import AnyNetConf
from ssltyped.trunks.resnet import Norm, ResNetConf, ResNetSKConf, Stem
from ssltyped.trunks.vit import Masking
from ssltyped.types import Trunk
from ssltyped.weights.recognise import as_overrides, recognise
from ssltyped.weights.stored import VISSL, Stored
from ssltyped.weights.vissl import trunk_layout

MORE: Mapping[str, Callable[[], Trunk]] = {
    "small stem": lambda: ResNetConf(depth=18, width_multiplier=0.5, stem=Stem.SMALL),
    "group norm": lambda: ResNetConf(depth=18, norm=Norm.GROUP),
    "selective kernels": lambda: ResNetSKConf(depth=50, width_multiplier=1.0),
    "masked vit": lambda: VIT(masking=Masking.REPLACE),
    "alexnet": lambda: AlexNetConf(variant=AlexNetVariant.ROTNET),
    "anynet": lambda: AnyNetConf(
        depths=[1, 2], widths=[8, 16], group_widths=[4, 8], bottleneck_multipliers=[1.0, 0.5], strides=[2, 2]
    ),
}
CASES = {
    **{name: make for name, make in TRUNKS.items() if name not in ("timm's own", "vit with scaled branches")},
    **MORE,
}


@pytest.mark.parametrize("name", CASES)
def test_a_trunk_is_found_by_the_shapes_of_its_tensors_under_vissls_names(name: str) -> None:
    with torch.device("meta"):
        trunk = build(CASES[name]())
    theirs: Mapping[str, Tensor] = {f"trunk.{n}": value for n, value in trunk_layout(trunk).export(trunk).items()}
    found = recognise(Stored(theirs, VISSL, num_heads=getattr(trunk, "num_heads", None)))
    assert found is not None
    assert found.complete
    with torch.device("meta"):
        other = build(found.trunk)
    assert type(other) is type(trunk)
    assert {n: v.shape for n, v in other.state_dict().items()} == {n: v.shape for n, v in trunk.state_dict().items()}


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_of_a_config_makes_it_again(name: str) -> None:
    asked = CASES[name]()
    made = config.override(recipe, as_overrides(asked, "trunk"))
    assert config.get(made, "trunk") == asked


def test_heads_that_no_tensor_shows_are_said_to_be_assumed() -> None:
    with torch.device("meta"):
        trunk = build(VIT(hidden_dim=128, num_heads=8))
    found = recognise(Stored(trunk.state_dict()))
    assert found is not None
    assert config.get(found.trunk, "num_heads") == 2
    assert "64 features each" in found.assumed["num_heads"]
    told = recognise(Stored(trunk.state_dict(), num_heads=8))
    assert told is not None
    assert config.get(told.trunk, "num_heads") == 8
    assert "num_heads" not in told.assumed


def test_nothing_is_recognised_in_other_tensors() -> None:
    assert recognise(Stored({"a.weight": torch.zeros(3)})) is None
    with torch.device("meta"):
        half = dict(list(build(VIT()).state_dict().items())[:-9])
    found = recognise(Stored(half))
    assert found is None or not found.complete

"""Shapes by our names, and configs that nothing fits."""

import torch

from ssltyped import build
from ssltyped.trunks.resnet import ResNetConf
from ssltyped.weights.families import FAMILIES, Shapes, configs
from ssltyped.weights.layout import Layout
from ssltyped.weights.schemes import SCHEMES


def test_shapes_are_looked_up_by_our_names_and_put_together() -> None:
    layout = Layout(renames=[(r"^blocks\.(\d)\.qkv\.", r"layer.\1.{q,k,v}.")])
    theirs = {f"layer.{i}.{part}.weight": torch.empty(4, 8) for i in range(2) for part in "qkv"}
    shapes = Shapes(theirs, layout)
    assert shapes.of("blocks.0.qkv.weight") == (12, 8)
    assert shapes.count("blocks.{}.qkv.weight") == 2
    assert not shapes.has("blocks.0.qkv.bias")


def test_heads_of_published_widths() -> None:
    assumed: dict[str, str] = {}
    shapes = Shapes({}, Layout())
    assert [shapes.heads(dim, assumed) for dim in (192, 384, 768, 1024, 1280, 1408)] == [3, 6, 12, 16, 16, 16]
    assert "num_heads" in assumed
    assert Shapes({}, Layout(), num_heads=5).heads(768, {}) == 5


def test_a_network_of_other_depths_has_no_config() -> None:
    with torch.device("meta"):
        state = dict(build(ResNetConf(depth=18)).state_dict())
    assert len(configs("ResNet", Layout(), state)) == 1
    state["layer4.2.conv1.weight"] = state["layer4.1.conv1.weight"]
    assert configs("ResNet", Layout(), state) == []
    assert [configs(family, Layout(), {}) for family in FAMILIES if family not in ("EfficientNet", "AlexNet")] == [
        [] for family in FAMILIES if family not in ("EfficientNet", "AlexNet")
    ]


def test_every_scheme_has_a_family() -> None:
    assert {scheme.family for scheme in SCHEMES} == set(FAMILIES)

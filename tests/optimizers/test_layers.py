"""How deep a parameter is: by names of several networks, and by trunks that say it themselves."""

import pytest
from torch import nn

from ssltyped.optimizers.layers import Layered, depths
from ssltyped.trunks.resnet import ResNet

VIT = ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.0.mlp.layers.0.weight"]
VIT += ["blocks.1.attn.qkv.weight", "norm.weight"]


@pytest.mark.parametrize(
    "names, want, last",
    [
        (VIT, [0, 0, 0, 1, 1, 2, 2], 2),
        (["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.1.bn2.bias", "layer2.0.bn1.bias"], None, 2),
        (
            ["patch.w", "stages.0.blocks.0.w", "stages.0.blocks.1.w", "stages.0.down.w", "stages.1.blocks.0.w"],
            [0, 1, 2, 2, 3],
            3,
        ),
        (["stem.w", "blocks.0.block.0.w", "blocks.0.block.1.w", "blocks.1.block.0.w"], [0, 1, 1, 2], 2),
        (["features.0.0.w", "features.1.block.0.w", "features.1.block.1.w", "fc.w"], [1, 2, 2, 2], 2),
        (["model.blocks.10.w", "model.blocks.11.w", "model.cls_attn_blocks.0.w", "model.fc.w"], [1, 2, 2, 2], 2),
    ],
)
def test_by_names(names: list[str], want: list[int] | None, last: int) -> None:
    found, layers = depths(nn.Identity(), names)
    assert layers == last
    if want is not None:
        assert list(found.values()) == want
    assert list(found.values()) == sorted(found.values())


def test_resnet_has_four_layers_after_its_stem() -> None:
    trunk = ResNet(depth=18)
    found, layers = depths(trunk, [name for name, _ in trunk.named_parameters()])
    assert layers == 4
    for name, depth in found.items():
        assert depth == (int(name[5]) if name.startswith("layer") else 0)


class Own(nn.Module):
    @property
    def num_layers(self) -> int:
        return 7

    def layer_of(self, name: str) -> int:
        return len(name)


def test_a_trunk_may_say_it_itself() -> None:
    assert isinstance(Own(), Layered)
    assert depths(Own(), ["a", "blocks.0.b"]) == ({"a": 1, "blocks.0.b": 10}, 7)


def test_no_layers_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Linear has no parameter in blocks\.i"):
        depths(nn.Linear(2, 2), ["weight", "bias"])

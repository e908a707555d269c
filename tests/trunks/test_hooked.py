"""Features by the names of modules: which there are, in-place work behind them, stopping early, shares of blocks."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from trunk_contract import check_checkpointing, check_colors, check_features, images

from ssltyped.trunks.base import Input, InputColor
from ssltyped.trunks.hooked import HookedTrunk, block_names, replace, see_channels


class Block(nn.Module):
    """Counts its passes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return F.dropout(F.relu(self.norm(self.conv(x))), 0.2, self.training)


class Network(nn.Module):
    """A stem, blocks one below the other, something in place, pooling; the activation is used twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.stages = nn.ModuleList([nn.Sequential(Block(4), Block(4)), nn.Sequential(Block(4), Block(4))])
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = self.act(self.stem(images))
        for stage in self.stages:
            x = stage(x)
        x = self.act(self.norm(x))
        pooled: Tensor = self.classifier(x.mean((2, 3)))
        return pooled


def trunk(*, splits: int = 0, color: InputColor = InputColor.RGB, channels: int = 3) -> HookedTrunk:
    seen = 1 if color is InputColor.LAB else channels
    return HookedTrunk(
        model=Network(seen), image_size=8, input=Input(channels=channels, color=color, checkpoint_splits=splits)
    )


def blocks(made: HookedTrunk) -> Iterator[Block]:
    for module in made.modules():
        if isinstance(module, Block):
            yield module


def test_modules_that_are_no_part_of_a_block_are_features_in_the_order_in_which_they_finish() -> None:
    """Not what is used twice, not identities, not what is inside of blocks."""
    names = [*(f"stages.{i // 3}" + ("" if i % 3 == 2 else f".{i % 3}") for i in range(6))]
    assert list(trunk().feature_dims) == ["stem", *names, "norm", "flatten"]
    assert block_names(Network(3)) == ["stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1"]


def test_features_are_what_modules_gave_although_the_next_works_in_place() -> None:
    made = trunk()
    features = check_features(made, 8)
    assert torch.equal(features["stem"], made.model.get_submodule("stem")(images(8)))
    assert (features["stem"] < 0).any()


def test_nothing_is_computed_past_the_last() -> None:
    made = trunk()
    made(images(8), ["stages.0", "stem"])
    assert [block.passes for block in blocks(made)] == [1, 1, 0, 0]
    assert made(images(8), []) == []
    assert not any(module._forward_hooks for module in made.modules())


def test_unknown_features_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown feature 'stage.0': did you mean 'stages.0'"):
        trunk()(images(8), ["stage.0"])


@pytest.mark.parametrize("splits, twice", [(2, 2), (3, 3), (4, 3), (9, 4)])
def test_all_shares_of_blocks_but_the_last_are_computed_again(splits: int, twice: int) -> None:
    made = trunk(splits=splits)
    made(images(8), ["flatten"])[0].sum().backward()
    assert [block.passes for block in blocks(made)] == [2] * twice + [1] * (4 - twice)
    with torch.no_grad():
        made(images(8), ["flatten"])
    made.eval()(images(8), ["flatten"])[0].sum().backward()
    assert [block.passes for block in blocks(made)] == [4] * twice + [3] * (4 - twice)


@pytest.mark.parametrize("features", [["flatten"], ["stages.1", "stages.0.0", "flatten"]])
def test_checkpointing(features: list[str]) -> None:
    check_checkpointing(lambda splits: trunk(splits=splits), 8, features)


def test_a_copy_is_recomputed_too_and_has_the_same_names() -> None:
    made = trunk(splits=2)
    twin = copy.deepcopy(made)
    assert list(twin.state_dict()) == list(trunk().state_dict())
    torch.testing.assert_close(twin.eval()(images(8), ["norm"]), made.eval()(images(8), ["norm"]))
    twin.train()(images(8), ["flatten"])[0].sum().backward()
    assert [block.passes for block in blocks(twin)] == [3, 3, 2, 2]
    assert [block.passes for block in blocks(made)] == [1, 1, 1, 1]


def test_colours_and_channels() -> None:
    check_colors(lambda color, channels: trunk(color=color, channels=channels), 8)


def test_the_first_convolution_is_replaced_for_other_channels_only() -> None:
    network = Network(3)
    before = network.stem
    see_channels(network, 3)
    assert network.stem is before
    see_channels(network, 7)
    assert network.stem.weight.shape == (4, 7, 3, 3)
    assert (network.stem.padding, network.stem.bias is None) == ((1, 1), False)
    replace(network, "stages.1.0", nn.Identity())
    assert isinstance(network.get_submodule("stages.1.0"), nn.Identity)

"""A trunk is tried on the images that it will get, without numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import pytest
import torch
from methods import METHODS, vit
from tiny import tiny
from torch import Tensor

from ssltyped import config, launch
from ssltyped.config import ConfigError, config_for
from ssltyped.data.splits import EvalSplitConf
from ssltyped.model.fits import tried
from ssltyped.resolution import resolve_experiment
from ssltyped.transforms.geometry import CenterCropConf, RandomResizedCropConf
from ssltyped.transforms.views import MultiCropConf, RepeatViewsConf
from ssltyped.trunks.libraries import TimmTrunk, TimmTrunkConf, TorchvisionTrunk, TorchvisionTrunkConf
from ssltyped.types import Features, Head, Trunk, ViewMaker

Kind = Literal["right", "narrow", "tensor", "values", "few", "device", "tuple"]


class Odd(Trunk):
    """A trunk that does not do what it says.

    Args:
        kind: what is wrong.
    """

    def __init__(self, *, kind: Kind = "right") -> None:
        super().__init__()
        self.kind = kind
        self.conv = torch.nn.Conv2d(3, 4, 3)

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {"map": 4, "flat": 5 if self.kind == "narrow" else 4}

    def forward(self, images: Tensor, features: Sequence[str]) -> Features:
        x = self.conv(images)
        if self.kind == "device":
            raise RuntimeError("FastKernel only supports CUDA and CPU")
        if self.kind == "values" and x.sum().item() > 0:
            x = -x
        found = {"map": x, "flat": x.mean(dim=(2, 3))}
        chosen = [found[name] for name in features]
        if self.kind == "tensor":
            return cast(Features, x)  # what is to be found out
        if self.kind == "tuple":
            return cast(Features, tuple(chosen))
        return chosen[:1] if self.kind == "few" else chosen


OddConf = config_for(Odd)
WRONG: dict[Kind, str] = {
    "right": "",
    "values": "",  # cannot be known without numbers
    "device": "",  # nor what a kernel wants
    "tuple": "",
    "narrow": "feature_dims says that flat is 5 wide, and it has the shape (B, 4)",
    "tensor": "gives Tensor, where a list of 2 features is wanted: map, flat",
    "few": "gives list, where a list of 2 features is wanted: map, flat",
}


def on_meta(trunk: type[Trunk], **fields: object) -> Trunk:
    with torch.device("meta"):
        return trunk(**fields)


@pytest.mark.parametrize("kind", WRONG)
def test_what_an_own_trunk_gives_is_looked_at(kind: Kind) -> None:
    assert tried(on_meta(Odd, kind=kind), 3, 16)[0] == WRONG[kind]


@pytest.mark.parametrize(
    ("trunk", "size", "fits"),
    [
        (on_meta(TorchvisionTrunk, name="vit_b_32", image_size=64), 64, True),
        (on_meta(TorchvisionTrunk, name="vit_b_32", image_size=64), 96, False),
        (on_meta(TorchvisionTrunk, name="resnet18", image_size=64), 96, True),
        (on_meta(TorchvisionTrunk, name="resnet18", image_size=64), 33, True),
        (on_meta(TimmTrunk, name="vit_tiny_patch16_224", image_size=64), 96, True),
        (on_meta(TimmTrunk, name="vit_tiny_patch16_224", image_size=64), 70, False),
        (on_meta(TimmTrunk, name="convit_tiny", image_size=64), 96, False),
        (on_meta(TimmTrunk, name="resnet10t", image_size=64), 50, True),
    ],
)
def test_networks_by_name(trunk: Trunk, size: int, fits: bool) -> None:
    assert (tried(trunk, 3, size)[0] == "") is fits


def two_sizes(large: int, small: int) -> ViewMaker:
    crops = [RandomResizedCropConf(size=size) for size in (large, small)]
    return MultiCropConf(groups=[RepeatViewsConf(num_views=1, transforms=[crop]) for crop in crops])


def test_a_network_by_name_is_made_for_the_views() -> None:
    for trunk in (TorchvisionTrunkConf(name="vit_b_16"), TimmTrunkConf(name="vit_tiny_patch16_224")):
        asked = config.replaced(tiny(), {"trunk": trunk, "data.train.views": two_sizes(32, 32)})
        assert config.get(resolve_experiment(asked).config, "trunk.image_size") == 32


def test_a_size_that_it_does_not_take_is_refused_before_the_run() -> None:
    asked = config.replaced(tiny(), {"trunk": TorchvisionTrunkConf(name="vit_b_16")})
    with pytest.raises(ConfigError, match=r"trunk: does not fit the views of data.train, 16 pixels: .*32"):
        launch(config.replaced(asked, {"data.train.views": two_sizes(32, 16)}))
    dynamic = config.replaced(tiny(), {"trunk": vit(), "data.train.views": two_sizes(16, 10)})
    with pytest.raises(ConfigError, match=r"data.train, 10 pixels: images of 10 x 10 pixels are no whole"):
        launch(dynamic)


def test_images_of_an_evaluation_are_tried_too() -> None:
    asked = config.replaced(tiny(evaluated=True), {"trunk": vit()})
    val = EvalSplitConf(source=asked.data.val.source if asked.data.val else None, transforms=[CenterCropConf(size=18)])
    with pytest.raises(ConfigError, match=r"the images of data\.val, 18 pixels"):
        launch(config.replaced(asked, {"data.val": val}))


def test_an_own_trunk_that_is_not_what_it_says_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trunk: does not fit .*feature_dims says that flat is 5 wide"):
        launch(config.replaced(tiny(), {"trunk": OddConf(kind="narrow")}))


class OddHead(Head):
    """A head that does not give what it says.

    Args:
        says: the width that it states.
        gives: what comes out.
    """

    def __init__(self, *, says: int = 8, gives: Literal["wide", "two", "text"] = "wide") -> None:
        super().__init__()
        self.says, self.gives = says, gives

    @property
    def out_dim(self) -> int:
        return self.says

    def forward(self, features: Tensor) -> Tensor | list[Tensor]:
        rows = features[:, :8]
        if self.gives == "text":
            return cast(Tensor, "rows")
        return [rows, rows] if self.gives == "two" else rows


OddHeadConf = config_for(OddHead)


@pytest.mark.parametrize(
    ("says", "gives", "told"),
    [
        (7, "wide", r"out_dims says \[7\], and it gives rows of the shapes \[\(8,\)\]"),
        (8, "two", r"out_dims says \[8\], and it gives rows of the shapes \[\(8,\), \(8,\)\]"),
        (8, "text", "gives str, where a tensor, or a list of them, is wanted"),
    ],
)
def test_an_own_head_that_is_not_what_it_says_is_refused(says: int, gives: str, told: str) -> None:
    head = OddHeadConf(says=says, gives=gives)  # type: ignore[arg-type]  # one of them
    with pytest.raises(ConfigError, match=rf"heads\.projector: {told}"):
        launch(config.replaced(tiny(), {"heads": {"projector": head}}))


@pytest.mark.parametrize("name", METHODS)
def test_heads_of_ours_are_what_they_say(name: str) -> None:
    """None of them is refused, whatever it reads."""
    assert resolve_experiment(METHODS[name]).config.heads

"""Convolutional trunks against VISSL's: every key and shape, and forward passes with weights loaded under its names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from golden_cases import FOLDER, load_cases, load_tensors
from torch import Tensor

from ssltyped.trunks.alexnet import AlexNet, AlexNetVariant
from ssltyped.trunks.base import Input, InputColor, StagedTrunk
from ssltyped.trunks.efficientnet import EfficientNet
from ssltyped.trunks.libraries import TimmTrunk
from ssltyped.trunks.mobilenet import MobileNetV3
from ssltyped.trunks.regnet import AnyNet, NamedRegNet, RegNet, RegNetName
from ssltyped.trunks.resnet import ResNet, ResNetSK
from ssltyped.weights.layout import Layout
from ssltyped.weights.vissl_convolutional import BLOCKS, LAYOUTS
from tools.golden.fill import fill

RECORDED: Mapping[str, Callable[[], StagedTrunk]] = {
    "resnet_sk152_w1": partial(ResNetSK, width_multiplier=1.0),
    "alexnet_jigsaw": partial(AlexNet, variant=AlexNetVariant.JIGSAW),
    "alexnet_colorization": partial(AlexNet, variant=AlexNetVariant.COLORIZATION, input=Input(color=InputColor.LAB)),
    "alexnet_deepcluster": partial(AlexNet, variant=AlexNetVariant.DEEPCLUSTER),
    "efficientnet_b0": EfficientNet,
    "regnet_y_400mf": partial(NamedRegNet, name=RegNetName.Y_400MF),
    "regnet_16gf": partial(RegNet, depth=18, w_0=200, w_a=106.23, w_m=2.48, group_width=112),
    "mobilenetv3_tv": MobileNetV3,
}


@dataclass
class Listing:
    variant: str
    image_size: int
    num_params: int
    num_trainable: int
    shapes: dict[str, list[int]]


@dataclass
class Forward:
    id: str
    variant: str
    input: str
    repeat: int
    features: list[str]
    rtol: float
    atol: float


def layout_of(trunk: StagedTrunk) -> Layout:
    return LAYOUTS[type(trunk).__name__](trunk)


def exported(trunk: StagedTrunk) -> dict[str, str]:
    """Keys and shapes as they would be saved."""
    state = layout_of(trunk).export(trunk)
    return {key: " ".join(map(str, value.shape)) for key, value in state.items()}


@pytest.mark.parametrize("case", load_cases("trunks_convolutional_listing", Listing), ids=lambda case: case.variant)
def test_keys_shapes_and_features_are_those_recorded(case: Listing) -> None:
    with np.load(FOLDER / "trunks_convolutional_listing.npz") as arrays:
        keys, shapes = (str(arrays[f"{case.variant}/{kind}"]).split("\n") for kind in ("keys", "shapes"))
    with torch.device("meta"):
        trunk = RECORDED[case.variant]().eval()
        features = trunk(torch.empty(1, 3, case.image_size, case.image_size), list(trunk.feature_dims))
    assert exported(trunk) == dict(zip(keys, shapes, strict=True))
    assert sum(parameter.numel() for parameter in trunk.parameters()) == case.num_params
    assert sum(p.numel() for p in trunk.parameters() if p.requires_grad) == case.num_trainable
    got = {name: list(x.shape) for name, x in zip(trunk.feature_dims, features, strict=True)}
    assert {name: shape[1] for name, shape in got.items()} == trunk.feature_dims
    if isinstance(trunk, AlexNet):  # recorded without flattening anything
        channels, height, width = case.shapes.pop("flatten")[1:]
        assert got["flatten"] == [1, channels * height * width]
    assert {name: got[name] for name in case.shapes} == case.shapes


@pytest.mark.parametrize("case", load_cases("trunks_convolutional", Forward), ids=lambda case: case.variant)
def test_forward_with_weights_under_their_names_is_that_recorded(case: Forward) -> None:
    with torch.device("meta"):
        trunk = RECORDED[case.variant]().eval()
    trunk.to_empty(device="cpu")
    layout = layout_of(trunk)
    layout.load(trunk, fill(layout.export(trunk)))
    golden = load_tensors("trunks_convolutional")
    batch = golden[f"in/{case.input}"].repeat_interleave(case.repeat, 2).repeat_interleave(case.repeat, 3)
    with torch.no_grad():
        features = trunk(batch, case.features)
    for name, x in zip(case.features, features, strict=True):
        got = {"mean": x.mean(), "abs_mean": x.abs().mean(), "std": x.std()}
        got["samples"] = x.flatten()[golden[f"{case.id}/out/{name}/sample_index"]]
        for key, value in got.items():
            want = golden[f"{case.id}/out/{name}/{key}"]
            torch.testing.assert_close(value.double(), want.double(), rtol=case.rtol, atol=case.atol)


def test_resnets_have_the_same_names_below_the_prefix() -> None:
    trunk = ResNet(depth=18, width_multiplier=0.125)
    assert list(exported(trunk)) == [BLOCKS + key for key in trunk.state_dict()]


TINY: list[Callable[[], StagedTrunk]] = [
    partial(ResNet, depth=18, width_multiplier=0.125),
    partial(ResNetSK, depth=50, width_multiplier=0.125),
    *(partial(AlexNet, variant=variant) for variant in AlexNetVariant if variant is not AlexNetVariant.COLORIZATION),
    partial(RegNet, depth=4, w_0=8, w_a=8.0, w_m=2.0, group_width=8),
    partial(
        AnyNet, depths=[1, 2], widths=[8, 16], group_widths=[4, 8], bottleneck_multipliers=[1.0, 0.5], strides=[2, 1]
    ),
    partial(NamedRegNet, name=RegNetName.X_400MF),
    partial(EfficientNet, use_se=False),
    partial(MobileNetV3, width_multiplier=0.25),
]


@pytest.mark.parametrize("make", TINY, ids=lambda make: make.func.__name__)
def test_what_is_exported_loads_into_another_trunk(make: Callable[[], StagedTrunk]) -> None:
    """Every entry has its own name there, and comes back as it was."""
    one, other = make(), make()
    layout = layout_of(one)
    theirs = layout.export(one)
    assert len(theirs) == len(one.state_dict())
    layout.load(other, theirs)
    got: dict[str, Tensor] = other.state_dict()
    torch.testing.assert_close(got, one.state_dict(), rtol=0, atol=0)


def test_blocks_without_squeezing_have_no_entries_for_it() -> None:
    names = exported(EfficientNet(use_se=False))
    assert not [name for name in names if ".se_" in name]
    assert {f"{BLOCKS}block15.{layer}.weight" for layer in ("expand_conv", "project_conv", "bn2")} <= names.keys()


def test_timms_network_keeps_its_names_but_for_the_convolution_that_they_drop() -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        trunk = TimmTrunk(name="mobilenetv3_large_100")
        other = TimmTrunk(name="resnet10t")
    names = exported(trunk)
    assert set(trunk.state_dict()) - names.keys() == {"model.conv_head.weight", "model.conv_head.bias"}
    assert sum(1 for name in names if name.endswith("num_batches_tracked")) == 46
    assert list(exported(other)) == list(other.state_dict())

"""Trunks against VISSL's: every key and shape, and forward passes with weights loaded under its names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from golden_cases import FOLDER, load_cases, load_tensors
from torch import Tensor, nn

from ssltyped.trunks.alexnet import AlexNet, AlexNetVariant
from ssltyped.trunks.base import Input, InputColor, StagedTrunk
from ssltyped.trunks.beit import BEiT
from ssltyped.trunks.convit import ConViT
from ssltyped.trunks.convnext import ConvNeXt
from ssltyped.trunks.efficientnet import EfficientNet
from ssltyped.trunks.libraries import TimmTrunk
from ssltyped.trunks.mobilenet import MobileNetV3
from ssltyped.trunks.regnet import AnyNet, NamedRegNet, RegNet, RegNetName
from ssltyped.trunks.resnet import ResNet, ResNetSK
from ssltyped.trunks.swin import SwinTransformer
from ssltyped.trunks.vit import Masking, VisionTransformer
from ssltyped.trunks.xcit import XCiT
from ssltyped.weights.layout import Layout
from ssltyped.weights.vissl_trunks import BLOCKS, LAYOUTS
from tools.golden.fill import fill

tiny_vit = partial(
    VisionTransformer, image_size=64, patch_size=8, num_layers=4, num_heads=3, hidden_dim=48, mlp_dim=96, qkv_bias=True
)
tiny_convit = partial(
    ConViT, image_size=32, patch_size=8, num_layers=3, n_gpsa_layers=2, num_heads=4, hidden_dim=8, mlp_dim=12
)
tiny_xcit = partial(XCiT, hidden_dim=16, num_layers=2, num_heads=4)
tiny_convnext = partial(ConvNeXt, depths=(2, 1), dims=(8, 12))
tiny_beit = partial(BEiT, image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8)
RECORDED: Mapping[str, Callable[[], StagedTrunk]] = {
    "resnet_sk152_w1": partial(ResNetSK, width_multiplier=1.0),
    "alexnet_jigsaw": partial(AlexNet, variant=AlexNetVariant.JIGSAW),
    "alexnet_colorization": partial(AlexNet, variant=AlexNetVariant.COLORIZATION, input=Input(color=InputColor.LAB)),
    "alexnet_deepcluster": partial(AlexNet, variant=AlexNetVariant.DEEPCLUSTER),
    "efficientnet_b0": EfficientNet,
    "regnet_y_400mf": partial(NamedRegNet, name=RegNetName.Y_400MF),
    "regnet_16gf": partial(RegNet, depth=18, w_0=200, w_a=106.23, w_m=2.48, group_width=112),
    "mobilenetv3_tv": MobileNetV3,
    "vit_tiny64": tiny_vit,
    "vit_b16_config": partial(VisionTransformer, dropout_rate=0.1, qkv_bias=False),
    # The configuration of this name is one of a plain vision transformer.
    "convit_b_config": partial(
        VisionTransformer, num_heads=16, hidden_dim=1024, mlp_dim=4096, drop_path_rate=0.1, qkv_bias=False
    ),
    "swin_tiny": SwinTransformer,
    "beit_default": partial(BEiT, qkv_bias=False),
    "convnext_default": ConvNeXt,
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


@dataclass
class TransformerListing:
    variant: str
    image_size: int
    num_params: int
    shapes: dict[str, list[int]]


@dataclass
class TransformerForward:
    id: str
    variant: str
    input: str
    repeat: int
    features: list[str]


def layout_of(trunk: StagedTrunk) -> Layout:
    return LAYOUTS[type(trunk).__name__](trunk)


def exported(trunk: StagedTrunk) -> dict[str, str]:
    """Keys and shapes as they would be saved."""
    return {key: " ".join(map(str, value.shape)) for key, value in layout_of(trunk).export(trunk).items()}


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


@pytest.mark.parametrize(
    "case", load_cases("trunks_transformers_listing", TransformerListing), ids=lambda case: case.variant
)
def test_keys_shapes_and_features_of_transformers_are_those_recorded(case: TransformerListing) -> None:
    with np.load(FOLDER / "trunks_transformers_listing.npz") as arrays:
        keys, shapes = (arrays[f"{case.variant}/{kind}"].tolist() for kind in ("keys", "shapes"))
    with torch.device("meta"):
        trunk = RECORDED[case.variant]().eval()
        features = trunk(torch.empty(1, 3, case.image_size, case.image_size), list(case.shapes))
    assert exported(trunk) == dict(zip(keys, shapes, strict=True))
    assert {name: list(x.shape) for name, x in zip(case.shapes, features, strict=True)} == case.shapes
    # The norm of the pooled patches, which makes pooling what its option says, is ours alone.
    extra = sum(p.numel() for name, p in trunk.named_parameters() if name.startswith("fc_norm."))
    assert extra == (2 * 768 if case.variant == "beit_default" else 0)
    assert sum(parameter.numel() for parameter in trunk.parameters()) - extra == case.num_params


@pytest.mark.parametrize("case", load_cases("trunks_transformers", TransformerForward), ids=lambda case: case.variant)
def test_forward_of_transformers_with_weights_under_their_names_is_that_recorded(case: TransformerForward) -> None:
    trunk = RECORDED[case.variant]().eval()
    layout = layout_of(trunk)
    layout.load(trunk, fill(layout.export(trunk)))
    golden = load_tensors("trunks_transformers")
    inputs = golden if f"{case.input}/in/x" in golden else load_tensors("trunks")
    batch = inputs[f"{case.input}/in/x"].repeat_interleave(case.repeat, 2).repeat_interleave(case.repeat, 3)
    with torch.no_grad():
        features = trunk(batch, case.features)
    for name, x in zip(case.features, features, strict=True):
        got = {"mean": x.mean(), "abs_mean": x.abs().mean(), "std": x.std()}
        got["samples"] = x.flatten()[golden[f"{case.id}/out/{name}/sample_index"]]
        for key, value in got.items():
            want = golden[f"{case.id}/out/{name}/{key}"]
            torch.testing.assert_close(value.double(), want.double(), rtol=1e-3, atol=1e-4)


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
    tiny_vit,
    partial(tiny_vit, masking=Masking.REPLACE, use_class_token=False),
    partial(SwinTransformer, image_size=32, embed_dim=8, depths=(2, 1), num_heads=(2, 4)),
    tiny_convnext,
    tiny_convit,
    tiny_xcit,
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
    with torch.device("meta"):
        trunk = TimmTrunk(name="mobilenetv3_large_100")
        other = TimmTrunk(name="resnet10t")
    names = exported(trunk)
    assert set(trunk.state_dict()) - names.keys() == {"model.conv_head.weight", "model.conv_head.bias"}
    assert sum(1 for name in names if name.endswith("num_batches_tracked")) == 46
    assert list(exported(other)) == list(other.state_dict())


def test_names_that_differ() -> None:
    vit = exported(tiny_vit(masking=Masking.REPLACE))
    assert vit["patch_masking.masked_embed"] == "1 48"
    convit = exported(tiny_convit())
    assert convit["class_token"] == "1 1 8"
    assert convit["pos_embedding"] == "1 16 8"
    assert convit["blocks.0.mlp.linear_2.weight"] == "8 12"
    assert convit["blocks.1.attn.pos_proj.weight"] == "4 30"
    assert convit["blocks.1.attn.alpha"] == "1 4 1 1"
    xcit = exported(tiny_xcit())
    assert xcit["pos_embeder.token_projection.weight"] == "16 64 1 1"
    assert xcit["cls_attn_blocks.1.attn.qkv.weight"] == "48 16"
    assert xcit["patch_embed.proj.2.1.running_var"] == "4"
    assert xcit["blocks.1.attn.temperature"] == "4 1 1"
    convnext = exported(tiny_convnext())
    assert convnext["stages.1.0.pwconv2.weight"] == "12 48"
    assert convnext["downsample_layers.1.1.weight"] == "12 8 2 2"


def test_beit_with_all_its_options() -> None:
    options = tiny_beit(
        qkv_bias=True,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        use_shared_rel_pos_bias=True,
        use_mean_pooling=False,
        init_values=0.1,
    )
    names = exported(options)
    assert names["rel_pos_bias.relative_position_bias_table"] == "52 2"
    assert names["blocks.1.attn.relative_position_index"] == "17 17"
    assert names["blocks.0.attn.v_bias"] == "8"
    assert names["blocks.0.gamma_2"] == "8"
    assert names["norm.weight"] == "8"
    assert not {"pos_embed", "blocks.0.attn.qkv.bias"} & names.keys()


def test_what_only_our_beit_has_stays_as_it_is() -> None:
    """VISSL has no norm of the mean, and no token for masked patches."""
    one, other = tiny_beit(masking=Masking.REPLACE), tiny_beit(masking=Masking.REPLACE)
    assert one.mask_token is not None
    assert other.fc_norm is not None
    nn.init.ones_(one.mask_token)
    layout = layout_of(other)
    theirs = layout.export(one)
    assert not [name for name in theirs if "norm." in name and not name.startswith("blocks.")]
    layout.load(other, theirs)
    torch.testing.assert_close(other.blocks.state_dict(), one.blocks.state_dict(), rtol=0, atol=0)
    assert other.mask_token is not None
    assert not other.mask_token.any()
    assert torch.equal(other.fc_norm.weight, torch.ones(8))

"""Transformer trunks and ConvNeXt against VISSL's: keys and shapes, and forward passes with weights under its names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from golden_cases import FOLDER, load_cases, load_tensors
from torch import nn

from ssltyped.trunks.base import StagedTrunk
from ssltyped.trunks.beit import BEiT
from ssltyped.trunks.convit import ConViT
from ssltyped.trunks.convnext import ConvNeXt
from ssltyped.trunks.swin import SwinTransformer
from ssltyped.trunks.vit import Masking, VisionTransformer
from ssltyped.trunks.xcit import XCiT
from ssltyped.weights.layout import Layout
from ssltyped.weights.vissl_transformers import LAYOUTS
from tools.golden.fill import fill

tiny_vit = partial(
    VisionTransformer, image_size=64, patch_size=8, num_layers=4, num_heads=3, hidden_dim=48, mlp_dim=96, qkv_bias=True
)
RECORDED: Mapping[str, Callable[[], StagedTrunk]] = {
    "vit_tiny64": tiny_vit,
    "vit_b16_config": partial(VisionTransformer, dropout_rate=0.1),
    # The configuration of this name is one of a plain vision transformer.
    "convit_b_config": partial(VisionTransformer, num_heads=16, hidden_dim=1024, mlp_dim=4096, drop_path_rate=0.1),
    "swin_tiny": SwinTransformer,
    "beit_default": BEiT,
    "convnext_default": ConvNeXt,
}
TINY: list[Callable[[], StagedTrunk]] = [
    tiny_vit,
    partial(tiny_vit, masking=Masking.REPLACE, use_class_token=False),
    partial(SwinTransformer, image_size=32, embed_dim=8, depths=(2, 1), num_heads=(2, 4)),
    partial(ConvNeXt, depths=(2, 1), dims=(8, 12)),
    partial(ConViT, image_size=32, patch_size=8, num_layers=3, n_gpsa_layers=2, num_heads=4, hidden_dim=8, mlp_dim=12),
    partial(XCiT, hidden_dim=16, num_layers=2, num_heads=4),
]
tiny_beit = partial(BEiT, image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8)


@dataclass
class Listing:
    variant: str
    image_size: int
    num_params: int
    shapes: dict[str, list[int]]


@dataclass
class Forward:
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


@pytest.mark.parametrize("case", load_cases("trunks_transformers_listing", Listing), ids=lambda case: case.variant)
def test_keys_shapes_and_features_are_those_recorded(case: Listing) -> None:
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


@pytest.mark.parametrize("case", load_cases("trunks_transformers", Forward), ids=lambda case: case.variant)
def test_forward_with_weights_under_their_names_is_that_recorded(case: Forward) -> None:
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


@pytest.mark.parametrize("make", TINY, ids=lambda make: make.func.__name__)
def test_what_is_exported_loads_into_another_trunk(make: Callable[[], StagedTrunk]) -> None:
    """Every entry has its own name there, and comes back as it was."""
    one, other = make(), make()
    layout = layout_of(one)
    theirs = layout.export(one)
    assert len(theirs) == len(one.state_dict())
    layout.load(other, theirs)
    torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=0, atol=0)


def test_names_that_differ() -> None:
    vit = exported(tiny_vit(masking=Masking.REPLACE))
    assert vit["patch_masking.masked_embed"] == "1 48"
    convit = exported(TINY[4]())
    assert convit["class_token"] == "1 1 8"
    assert convit["pos_embedding"] == "1 16 8"
    assert convit["blocks.0.mlp.linear_2.weight"] == "8 12"
    assert convit["blocks.1.attn.pos_proj.weight"] == "4 30"
    assert convit["blocks.1.attn.alpha"] == "1 4 1 1"
    xcit = exported(TINY[5]())
    assert xcit["pos_embeder.token_projection.weight"] == "16 64 1 1"
    assert xcit["cls_attn_blocks.1.attn.qkv.weight"] == "48 16"
    assert xcit["patch_embed.proj.2.1.running_var"] == "4"
    assert xcit["blocks.1.attn.temperature"] == "4 1 1"
    convnext = exported(TINY[3]())
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

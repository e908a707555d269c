"""Positions and patches of another size: against timm's, and against a trunk that interpolates as it goes."""

import importlib

import pytest
import torch

from ssltyped.trunks.vit import VisionTransformer
from ssltyped.weights.resize import resized


@pytest.mark.parametrize(("old", "new"), [(16, 8), (8, 16), (14, 16), (4, 3)])
def test_patches_are_timms(old: int, new: int) -> None:
    weight = torch.randn(6, 3, old, old, generator=torch.Generator().manual_seed(0))
    wanted = importlib.import_module("timm.layers").resample_patch_embed(weight, [new, new])
    found = resized("patch_embed.proj.weight", weight, torch.Size([6, 3, new, new]))
    assert found is not None
    torch.testing.assert_close(found[0], wanted, rtol=1e-4, atol=1e-5)
    assert found[1] == f"patch_embed.proj.weight: patches of {old} to {new} pixels"


def vit(size: int) -> VisionTransformer:
    return VisionTransformer(image_size=size, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16).eval()


def test_positions_are_those_that_the_trunk_makes_for_larger_images() -> None:
    small, large = vit(32), vit(48)
    state = small.state_dict()
    found = resized("pos_embed", state["pos_embed"], large.state_dict()["pos_embed"].shape)
    assert found is not None
    assert found[1] == "pos_embed: 4 x 4 to 6 x 6 patches"
    large.load_state_dict({**state, "pos_embed": found[0]})
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(large(images, ["lastCLS"]), small(images, ["lastCLS"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("pos_embed", (1, 18, 8), (1, 17, 8)),
        ("pos_embed", (1, 17, 9), (1, 26, 8)),
        ("patch_embed.proj.weight", (8, 1, 4, 4), (8, 3, 8, 8)),
        ("blocks.0.attn.qkv.weight", (8, 8), (4, 4)),
    ],
)
def test_what_is_no_other_size_of_the_same_stays_a_misfit(
    name: str, theirs: tuple[int, ...], ours: tuple[int, ...]
) -> None:
    assert resized(name, torch.zeros(theirs), torch.Size(ours)) is None

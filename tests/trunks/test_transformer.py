"""Shared layers of the transformer trunks, against plain steps."""

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Optional

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.trunks.base import StagedTrunk
from ssltyped.trunks.beit import BEiT
from ssltyped.trunks.convit import ConViT
from ssltyped.trunks.convnext import ConvNeXt
from ssltyped.trunks.swin import SwinTransformer
from ssltyped.trunks.transformer import (
    MLP,
    Attention,
    Block,
    DropPath,
    Linear,
    PatchEmbed,
    Style,
    drawn,
    drop_path_rates,
    relative_index,
)
from ssltyped.trunks.vit import VisionTransformer, resized_positions
from ssltyped.trunks.xcit import XCiT


def style(qk_scale: Optional[float] = None, dropout: float = 0.0, attention_dropout: float = 0.0) -> Style:
    return Style(6, 2, 10, True, qk_scale, dropout, attention_dropout)


def randomized(module: nn.Module) -> nn.Module:
    """Biases, factors and all others away from where they start."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def test_weights_start_from_a_narrow_normal_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    layer = Linear(400, 300)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert layer.weight.abs().max() > 0.07  # a uniform one of this std would end at 0.035
    assert not layer.bias.any()
    assert drawn(1, 500, 20).std().item() == pytest.approx(0.02, rel=0.05)
    assert Linear(4, 3, bias=False).bias is None


def test_building_on_meta_draws_nothing_and_loads_no_compiler() -> None:
    program = """
import sys, torch
from ssltyped.trunks.beit import BEiT
from ssltyped.trunks.convit import ConViT
from ssltyped.trunks.convnext import ConvNeXt
from ssltyped.trunks.swin import SwinTransformer
from ssltyped.trunks.vit import VisionTransformer
from ssltyped.trunks.xcit import XCiT
with torch.device("meta"):
    relative = BEiT(use_rel_pos_bias=True, use_shared_rel_pos_bias=True, init_values=0.1, qkv_bias=True)
    trunks = [VisionTransformer(), relative, ConViT(), XCiT(), SwinTransformer(), ConvNeXt()]
assert all(parameter.is_meta for trunk in trunks for parameter in trunk.parameters())
assert all(buffer.is_meta for trunk in trunks for buffer in trunk.buffers())
sys.exit(", ".join(sorted({"torch._dynamo", "torchvision", "timm"} & set(sys.modules))) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


FAMILIES: list[Callable[[], StagedTrunk]] = [
    partial(VisionTransformer, image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8),
    partial(BEiT, image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, use_rel_pos_bias=True),
    partial(ConViT, image_size=32, patch_size=8, num_layers=2, n_gpsa_layers=1, num_heads=4, hidden_dim=8, mlp_dim=8),
    partial(XCiT, hidden_dim=16, num_layers=2, num_heads=4, patch_size=8),
    partial(SwinTransformer, image_size=32, embed_dim=8, depths=(2, 2), num_heads=(2, 2), window_size=4),
    partial(ConvNeXt, depths=(1, 1), dims=(4, 6)),
]


@pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.func.__name__)
def test_precisions(make: Callable[[], StagedTrunk]) -> None:
    """Double precision is what other tests compute in, mixed precision what is trained in."""
    torch.manual_seed(0)
    trunk = make().eval()
    images = torch.randn(2, 3, 40, 24)
    for name in trunk.feature_dims:
        (single,) = trunk(images, [name])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (mixed,) = trunk(images, [name])
        (double,) = copy.deepcopy(trunk).double()(images.double(), [name])
        assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
        torch.testing.assert_close(double.float(), single, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mixed.float(), single, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.func.__name__)
def test_an_image_does_not_see_the_others_of_its_batch(make: Callable[[], StagedTrunk]) -> None:
    trunk = make().eval()
    images = torch.randn(3, 3, 32, 32)
    (together,) = trunk(images, [list(trunk.feature_dims)[-1]])
    alone = torch.cat([trunk(image.unsqueeze(0), [list(trunk.feature_dims)[-1]])[0] for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_drop_path_keeps_whole_images_and_the_mean() -> None:
    torch.manual_seed(0)
    branch = torch.rand(4000, 3, 2) + 1
    out = DropPath(0.3)(branch)
    kept = (out / branch).flatten(1)
    torch.testing.assert_close(kept, torch.where(kept[:, :1] == 0, 0, 1 / 0.7).expand_as(kept))
    assert kept[:, 0].mean().item() == pytest.approx(1, abs=0.04)
    assert (kept[:, 0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_drop_path_is_off_in_evaluation_and_at_rate_0() -> None:
    branch = torch.randn(50, 3)
    assert DropPath(0.9).eval()(branch) is branch
    assert DropPath(0.0)(branch) is branch
    assert "rate=0.9" in repr(DropPath(0.9))


def test_drop_path_rates_grow_in_equal_steps() -> None:
    assert drop_path_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0]


def slow_attention(layer: Attention, x: Tensor, bias: Optional[Tensor], scale: float) -> Tensor:
    """Head by head and image by image."""
    heads, dim = layer.style.num_heads, x.shape[-1]
    width = dim // heads
    out = torch.zeros_like(x)
    for b in range(len(x)):
        q, k, v = torch.split(x[b] @ layer.qkv.weight.T + layer.qkv.bias, dim, dim=1)
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            logits = scale * q[:, part] @ k[:, part].T
            if bias is not None:
                logits = logits + bias[0, h]
            out[b][:, part] = torch.softmax(logits, dim=1) @ v[:, part]
    projected: Tensor = layer.proj(out)
    return projected


@pytest.mark.parametrize("qk_scale", [None, 0.9])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_in_plain_steps(qk_scale: Optional[float], biased: bool) -> None:
    layer = Attention(style(qk_scale=qk_scale))
    randomized(layer)
    x, bias = torch.randn(2, 5, 6), torch.randn(1, 2, 5, 5) if biased else None
    want = slow_attention(layer, x, bias, 1 / math.sqrt(3) if qk_scale is None else qk_scale)
    torch.testing.assert_close(layer(x, bias), want)


def test_dropout_of_attention_and_of_its_output_is_there_in_training_only() -> None:
    x = torch.randn(2, 5, 6)
    plain = Attention(style())
    for other in (Attention(style(dropout=0.5)), Attention(style(attention_dropout=0.5))):
        other.load_state_dict(plain.state_dict())
        torch.testing.assert_close(other.eval()(x), plain(x))
        assert not torch.allclose(other.train()(x), plain(x))
    out = Attention(style(dropout=0.5))(x)
    assert 0.2 < (out == 0).float().mean() < 0.8


def test_mlp_and_where_it_drops() -> None:
    mlp = MLP(style())
    randomized(mlp)
    x = torch.randn(3, 4, 6)
    torch.testing.assert_close(mlp(x), mlp.fc2(F.gelu(x @ mlp.fc1.weight.T + mlp.fc1.bias)))
    both, last = MLP(style(dropout=0.5)), MLP(style(dropout=0.5), hidden_dropout_rate=0.0)
    assert (both.hidden_dropout_rate, last.hidden_dropout_rate) == (0.5, 0.0)
    last.load_state_dict(mlp.state_dict())
    kept = (out := last(x)) != 0
    torch.testing.assert_close(out[kept], 2 * mlp(x)[kept])  # before the last dropout nothing was dropped


@pytest.mark.parametrize("layer_scale", [None, 0.1])
def test_block_in_plain_steps(layer_scale: Optional[float]) -> None:
    s = style()
    block = Block(s, Attention(s), 0.5, layer_scale=layer_scale).eval()
    x, bias = torch.randn(2, 5, 6), torch.randn(1, 2, 5, 5)
    factor = 1.0 if layer_scale is None else layer_scale
    y = x + factor * block.attn(F.layer_norm(x, (6,), eps=1e-6), bias)
    want = y + factor * block.mlp(F.layer_norm(y, (6,), eps=1e-6))
    torch.testing.assert_close(block(x, bias), want)
    assert (block.gamma_1 is None) == (layer_scale is None)


def test_block_drops_each_branch_for_itself() -> None:
    torch.manual_seed(0)
    s = style()
    block = Block(s, Attention(s), 0.5)
    x = torch.randn(1, 5, 6).expand(200, -1, -1)
    assert len(block(x).flatten(1).detach().round(decimals=3).unique(dim=0)) == 4


def test_patches_are_mapped_one_by_one_and_no_border_is_left_unseen() -> None:
    embed = PatchEmbed(2, 5, 4)
    for height, width in ((9, 12), (8, 14)):
        with pytest.raises(ValueError, match=f"{height} x {width} pixels are no whole number of patches"):
            embed(torch.randn(1, 2, height, width))
    images = torch.randn(1, 2, 8, 12)
    patches = embed(images)
    assert patches.shape == (1, 5, 2, 3)
    want = embed.proj(images[:, :, 4:8, 8:12]).flatten()
    assert not torch.equal(want, embed.proj(images[:, :, :4, 8:12]).flatten())
    torch.testing.assert_close(patches[0, :, 1, 2], want)


def test_positions_of_another_grid() -> None:
    ramp = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij"), dim=2).view(1, 64, 2)
    assert resized_positions(ramp, (8, 8), (8, 8)) is ramp
    half = resized_positions(ramp, (8, 8), (4, 6)).view(4, 6, 2)
    # The centre of patch i of 4 lies at 2 i + 0.5 of 8, half way between two of them.
    torch.testing.assert_close(half[1:3, 3, 0], torch.tensor([2.5, 4.5]))
    square = torch.randn(1, 36, 3)
    want = F.interpolate(square.view(1, 6, 6, 3).permute(0, 3, 1, 2), scale_factor=(0.5, 0.5), mode="bicubic")
    torch.testing.assert_close(resized_positions(square, (6, 6), (3, 3)), want.flatten(2).transpose(1, 2))


def test_each_offset_has_its_row() -> None:
    index = relative_index((3, 2))
    places = [(y, x) for y in range(3) for x in range(2)]
    rows: dict[tuple[int, int], int] = {}
    for i, (y, x) in enumerate(places):
        for j, (b, a) in enumerate(places):
            assert rows.setdefault((y - b, x - a), int(index[i, j])) == index[i, j]
            assert index[i, j] == (y - b + 2) * 3 + x - a + 1
    assert sorted(rows.values()) == list(range(15))


def test_problems() -> None:
    assert not list(Style.problems("hidden_dim", 12, 3))
    assert str(*Style.problems("hidden_dim", 12, 5)) == ("num_heads: 5 heads do not divide the hidden_dim of 12")
    assert not list(PatchEmbed.problems(224, 14))
    assert str(*PatchEmbed.problems(224, 15)) == "image_size: 224 is no multiple of the patch_size of 15"

"""XCiT: timm's network with the same weights, attention over features in plain loops, published sizes."""

import importlib
import math

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.trunks.base import Input
from ssltyped.trunks.transformer import DropPath, Style
from ssltyped.trunks.xcit import (
    ClassAttention,
    ConvPatchEmbed,
    CrossCovarianceAttention,
    FourierPositions,
    XCABlock,
    XCiT,
    XCiTConf,
)


def tiny(tokens_norm: bool = True, splits: int = 0) -> XCiT:
    trunk = XCiT(
        hidden_dim=16,
        num_layers=3,
        num_heads=4,
        mlp_ratio=2.0,
        eta=0.5,
        drop_path_rate=0.0,
        tokens_norm=tokens_norm,
        input=Input(checkpoint_splits=splits),
    )
    randomize(trunk)
    return trunk


def randomize(module: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "dim, layers, heads, patch, parameters",
    [(384, 12, 8, 16, 26_253_304), (192, 12, 4, 16, 6_716_272), (384, 24, 8, 8, 47_631_112)],
)
def test_published_sizes(dim: int, layers: int, heads: int, patch: int, parameters: int) -> None:
    """XCiT-S12/16, -T12/16 and -S24/8 with 1000 classes, as timm counts them; in the paper 26M, 7M and 48M."""
    with torch.device("meta"):
        trunk = XCiT(hidden_dim=dim, num_layers=layers, num_heads=heads, patch_size=16 if patch == 16 else 8)
    assert sum(parameter.numel() for parameter in trunk.parameters()) == parameters - 1000 * (dim + 1)


@pytest.mark.parametrize("tokens_norm", [False, True])
@pytest.mark.parametrize("patch", [8, 16])
def test_same_outputs_as_timm_with_its_weights(tokens_norm: bool, patch: int) -> None:
    timm = importlib.import_module("timm.models.xcit")
    reference = timm.Xcit(
        img_size=64,
        patch_size=patch,
        embed_dim=16,
        depth=2,
        num_heads=4,
        mlp_ratio=2.0,
        eta=0.5,
        tokens_norm=tokens_norm,
        num_classes=0,
    ).eval()
    randomize(reference)
    state = {key.replace("cls_attn_blocks.", "cls_blocks."): value for key, value in reference.state_dict().items()}
    for prefix in ("cls_blocks.0.attn", "cls_blocks.1.attn"):
        for kind in ("weight", "bias"):
            state[f"{prefix}.qkv.{kind}"] = torch.cat([state.pop(f"{prefix}.{part}.{kind}") for part in "qkv"])
    trunk = XCiT(
        patch_size=8 if patch == 8 else 16,
        hidden_dim=16,
        num_layers=2,
        num_heads=4,
        mlp_ratio=2.0,
        eta=0.5,
        tokens_norm=tokens_norm,
    ).eval()
    trunk.load_state_dict(state)
    tokens = reference.forward_features(images(64, 96))
    grid, class_token = trunk(images(64, 96), ["lastMAP", "lastCLS"])
    torch.testing.assert_close(class_token, tokens[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(grid.flatten(1, 2), tokens[:, 1:], atol=1e-4, rtol=1e-4)


def test_attention_over_features_in_plain_loops() -> None:
    layer = CrossCovarianceAttention(Style(6, 2, 8, True, None, 0.0, 0.0))
    randomize(layer)
    x = torch.randn(2, 5, 6)
    out = torch.zeros_like(x)
    for b in range(2):
        q, k, v = torch.split(F.linear(x[b], layer.qkv.weight, layer.qkv.bias), 6, dim=1)
        for h in range(2):
            for i in range(3):
                mine = q[:, 3 * h + i] / q[:, 3 * h + i].norm()
                others = [k[:, 3 * h + j] / k[:, 3 * h + j].norm() for j in range(3)]
                weights = torch.softmax(torch.stack([mine @ other for other in others]) * layer.temperature[h, 0, 0], 0)
                out[b, :, 3 * h + i] = v[:, 3 * h : 3 * h + 3] @ weights
    torch.testing.assert_close(layer(x), layer.proj(out))


@pytest.mark.parametrize("qk_scale", [None, 0.9])
def test_class_attention_in_plain_steps(qk_scale: float | None) -> None:
    layer = ClassAttention(Style(6, 2, 8, True, qk_scale, 0.0, 0.0))
    randomize(layer)
    x = torch.randn(1, 5, 6)
    q, k, v = torch.split(F.linear(x[0], layer.qkv.weight, layer.qkv.bias), 6, dim=1)
    scale = 1 / math.sqrt(3) if qk_scale is None else qk_scale
    parts = [slice(0, 3), slice(3, 6)]
    read = [torch.softmax(scale * k[:, part] @ q[0, part], 0) @ v[:, part] for part in parts]
    got = layer(x)
    torch.testing.assert_close(got[0, 0], layer.proj(torch.cat(read)))
    assert torch.equal(got[:, 1:], x[:, 1:])


def test_fourier_positions_in_plain_loops() -> None:
    layer = FourierPositions(5)
    want = torch.zeros(64, 3, 2)
    for y in range(3):
        for x in range(2):
            for k in range(16):
                for start, place in ((0, (y + 1) / 3), (32, (x + 1) / 2)):
                    angle = 2 * math.pi * place / 10000 ** (2 * k / 32)
                    want[start + 2 * k, y, x] = math.sin(angle)
                    want[start + 2 * k + 1, y, x] = math.cos(angle)
    torch.testing.assert_close(layer((3, 2)), layer.token_projection(want.unsqueeze(0)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("patch, widths", [(8, [4, 8, 16]), (16, [2, 4, 8, 16])])
def test_patches_are_convolutions_of_growing_width(patch: int, widths: list[int]) -> None:
    embed = ConvPatchEmbed(3, 16, patch)
    convs = [module for module in embed.modules() if isinstance(module, nn.Conv2d)]
    assert [(conv.out_channels, conv.stride[0], conv.bias) for conv in convs] == [(width, 2, None) for width in widths]
    assert sum(isinstance(module, nn.GELU) for module in embed.modules()) == len(widths) - 1
    assert embed(images(33, 48)).shape == (2, 16, -(-33 // patch), -(-48 // patch))


def test_features_by_name_at_any_size() -> None:
    trunk = tiny().eval()
    assert trunk.feature_dims == {"lastMAP": 16, "lastCLS": 16}
    summary, grid, again = trunk(images(33, 80), ["lastCLS", "lastMAP", "lastCLS"])
    assert grid.shape == (2, 3, 5, 16)
    assert summary.shape == (2, 16)
    assert torch.equal(summary, again)
    with pytest.raises(ValueError, match="unknown feature 'lastBLK': did you mean 'last"):
        trunk(images(), ["lastBLK"])


def test_starting_values_and_constant_stochastic_depth() -> None:
    torch.manual_seed(0)
    trunk = XCiT(hidden_dim=128, num_layers=3, eta=0.25, drop_path_rate=0.1)
    rates = [module.rate for module in trunk.modules() if isinstance(module, DropPath)]
    assert rates == [0.1, 0.1, 0.1]
    for name, parameter in trunk.named_parameters():
        if "gamma" in name:
            assert (parameter == 0.25).all(), name
        elif name.endswith("temperature"):
            assert (parameter == 1).all(), name
        elif name.endswith(("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight", "cls_token")):
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2), name
        elif name.endswith(("qkv.bias", "proj.bias", "fc1.bias", "fc2.bias")):
            assert not parameter.any(), name


def test_options_of_blocks() -> None:
    trunk = XCiT(
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        mlp_ratio=3.0,
        dropout_rate=0.2,
        attention_dropout_rate=0.3,
        qkv_bias=False,
        qk_scale=0.7,
    )
    style = Style(16, 2, 48, False, 0.7, 0.2, 0.3)
    (block,) = (module for module in trunk.modules() if isinstance(module, XCABlock))
    assert block.attn.style == style
    assert [m.style for m in trunk.modules() if isinstance(m, ClassAttention)] == [style, style]
    assert block.mlp.fc1.out_features == 48
    assert trunk.pos_drop.p == block.mlp.hidden_dropout_rate == 0.2
    assert "blocks.0.attn.qkv.bias" not in trunk.state_dict()


@pytest.mark.parametrize("tokens_norm", [False, True])
def test_gradients_reach_every_parameter_and_checkpointing_changes_none(tokens_norm: bool) -> None:
    one, other = tiny(tokens_norm), tiny(tokens_norm, splits=4)
    for trunk in (one, other):
        trunk(images(), ["lastCLS"])[0].square().sum().backward()
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        assert mine.grad.abs().sum() > 0, name
        torch.testing.assert_close(theirs.grad, mine.grad)
    torch.testing.assert_close(other.state_dict(), one.state_dict())  # running statistics moved once


@pytest.mark.parametrize(
    "config, path, text",
    [
        (XCiTConf(num_heads=7), "num_heads", "7 heads do not divide the hidden_dim of 384"),
        (XCiTConf(hidden_dim=36, num_heads=4), "hidden_dim", "36 cannot be halved for each convolution"),
    ],
)
def test_what_cannot_work_is_a_problem_of_the_config_and_refused_when_built(config: XCiT, path: str, text: str) -> None:
    problems = list(XCiT.problems(config, FACTS))
    assert [problem.path for problem in problems] == [path]
    assert text in problems[0].message
    options = {key: getattr(config, key) for key in ("num_heads", "hidden_dim")}
    with pytest.raises(ValueError, match=text):
        XCiT(**options)

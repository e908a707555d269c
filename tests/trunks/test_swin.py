"""Swin: torchvision's network with the same weights, windows in plain loops, maps of any size."""

import re

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn
from torchvision.models import SwinTransformer as Reference

from ssltyped.trunks.base import Input
from ssltyped.trunks.swin import Merging, SwinTransformer, SwinTransformerConf, WindowAttention, picture, windows
from ssltyped.trunks.transformer import Block, DropPath, Style


def tiny(image_size: int = 64, drop_path_rate: float = 0.0, splits: int = 0) -> SwinTransformer:
    trunk = SwinTransformer(
        image_size=image_size,
        patch_size=2,
        embed_dim=8,
        depths=(2, 2, 2),
        num_heads=(2, 4, 2),
        window_size=4,
        mlp_ratio=2.0,
        drop_path_rate=drop_path_rate,
        input=Input(checkpoint_splits=splits),
    )
    randomize(trunk)
    return trunk


def randomize(module: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def transplanted(reference: nn.Module) -> dict[str, Tensor]:
    """torchvision's state dict under our names."""
    state: dict[str, Tensor] = {}
    for key, value in reference.state_dict().items():
        key = re.sub(r"^features\.0\.0\.", "patch_embed.proj.", key)
        key = re.sub(r"^features\.0\.2\.", "patch_embed.norm.", key)
        key = re.sub(r"^features\.(\d+)\.(\d+)\.", lambda m: f"layers.{int(m[1]) // 2}.blocks.{m[2]}.", key)
        key = re.sub(r"^features\.(\d+)\.", lambda m: f"layers.{int(m[1]) // 2 - 1}.downsample.", key)
        key = key.replace("mlp.0", "mlp.fc1").replace("mlp.3", "mlp.fc2")
        if key.endswith("relative_position_index"):
            side = int(value.numel() ** 0.5)
            value = value.view(side, side)
        state[key] = value
    return state


@pytest.mark.parametrize(
    "dim, depths, heads, parameters",
    [
        (96, (2, 2, 6, 2), (3, 6, 12, 24), 28_288_354),
        (96, (2, 2, 18, 2), (3, 6, 12, 24), 49_606_258),
        (128, (2, 2, 18, 2), (4, 8, 16, 32), 87_768_224),
    ],
)
def test_published_sizes(dim: int, depths: tuple[int, ...], heads: tuple[int, ...], parameters: int) -> None:
    """Swin-T, -S and -B as torchvision states them, without their 1000 classes."""
    with torch.device("meta"):
        trunk = SwinTransformer(embed_dim=dim, depths=depths, num_heads=heads)
    assert sum(parameter.numel() for parameter in trunk.parameters()) == parameters - 1000 * (8 * dim + 1)


@pytest.mark.parametrize("height, width", [(64, 64), (72, 100), (128, 66)])
def test_same_outputs_as_torchvision_with_its_weights(height: int, width: int) -> None:
    """Also where maps are padded to whole windows and odd ones to even."""
    reference = Reference([2, 2], 8, [2, 2, 2], [2, 4, 2], [4, 4], mlp_ratio=2.0, stochastic_depth_prob=0.0).eval()
    randomize(reference)
    reference.head = nn.Linear(32, 32)
    nn.init.eye_(reference.head.weight)
    nn.init.zeros_(reference.head.bias)
    trunk = tiny().eval()
    state = transplanted(reference)
    trunk.load_state_dict({key: value for key, value in state.items() if not key.startswith("head.")})
    torch.testing.assert_close(trunk(images(height, width), ["lastPOOL"])[0], reference(images(height, width)))


def slow_window_attention(layer: WindowAttention, x: Tensor, window: int, shift: int) -> Tensor:
    """Token by token: which others it sees, and with which bias, on one map whose sides are multiples of windows."""
    height, width, dim = x.shape
    heads = layer.style.num_heads
    out = torch.zeros_like(x)
    table = layer.relative_position_bias_table.view(2 * layer.window - 1, 2 * layer.window - 1, heads)
    qkv = layer.qkv(x).view(height, width, 3, heads, dim // heads)

    def place(y: int, size: int) -> tuple[int, bool, int]:
        """Window, whether it came round, and place in it after the roll."""
        rolled = (y - shift) % size
        return rolled // window, y < shift, rolled % window

    for y in range(height):
        for a in range(width):
            mine = place(y, height), place(a, width)
            seen: list[tuple[int, int, Tensor]] = []
            for b in range(height):
                for c in range(width):
                    other = place(b, height), place(c, width)
                    if all(m[:2] == o[:2] for m, o in zip(mine, other, strict=True)):
                        dy, dx = (m[2] - o[2] + layer.window - 1 for m, o in zip(mine, other, strict=True))
                        seen.append((b, c, table[dy, dx]))
            for h in range(heads):
                logits = [qkv[y, a, 0, h] @ qkv[b, c, 1, h] * (dim // heads) ** -0.5 + bias[h] for b, c, bias in seen]
                weights = torch.softmax(torch.stack(logits), 0)
                value = sum(w * qkv[b, c, 2, h] for w, (b, c, _) in zip(weights, seen, strict=True))
                out[y, a, h * (dim // heads) : (h + 1) * (dim // heads)] = value
    projected: Tensor = layer.proj(out)
    return projected


@pytest.mark.parametrize("side, window, shift", [(6, 3, 1), (6, 3, 0), (2, 2, 0)])
def test_windows_in_plain_loops(side: int, window: int, shift: int) -> None:
    """The last is a map smaller than the window: the biases are those of the same offsets."""
    layer = WindowAttention(Style(4, 2, 8, True, None, 0.0, 0.0), 3, 1 if side < 3 else shift)
    randomize(layer)
    x = torch.randn(1, side, side, 4)
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[0], slow_window_attention(layer, x[0], window, shift))


def test_windows_and_back() -> None:
    x = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    parts = windows(x, 2)
    assert parts.shape == (2, 6, 4, 1)
    assert parts[0, 1].flatten().tolist() == [2, 3, 8, 9]
    assert torch.equal(picture(parts, (4, 6)), x)


def test_merging_takes_two_by_two_neighbours() -> None:
    merging, x = Merging(3), torch.randn(1, 3, 4, 3)
    corners = torch.cat([x[0, 0, 2], x[0, 1, 2], x[0, 0, 3], x[0, 1, 3]])
    torch.testing.assert_close(merging(x)[0, 0, 1], merging.reduction(merging.norm(corners)))
    assert merging(x).shape == (1, 2, 2, 6)  # a row of zeros makes it even


def test_features_by_name() -> None:
    trunk = tiny().eval()
    assert trunk.feature_dims == {"stage1": 8, "stage2": 16, "stage3": 32, "lastPOOL": 32}
    pooled, first, third = trunk(images(), ["lastPOOL", "stage1", "stage3"])
    assert (first.shape, third.shape) == ((2, 8, 32, 32), (2, 32, 8, 8))
    torch.testing.assert_close(pooled, trunk.norm(third.permute(0, 2, 3, 1)).mean((1, 2)))
    torch.testing.assert_close(trunk(images(), ["stage1"])[0], first)
    with pytest.raises(ValueError, match="unknown feature 'stage4': did you mean 'stage"):
        trunk(images(), ["stage4"])


def test_any_image_size() -> None:
    trunk = tiny().eval()
    for height, width in [(64, 64), (30, 50), (9, 7), (96, 33)]:
        pooled, last = trunk(images(height, width), ["lastPOOL", "stage3"])
        assert pooled.shape == (2, 32)
        assert last.shape == (2, 32, -(-height // 8), -(-width // 8))


def test_a_stage_as_small_as_a_window_has_windows_of_its_side() -> None:
    """With images of 24 pixels the maps have sides 12, 6 and 3."""
    attentions = [module for module in tiny(image_size=24).modules() if isinstance(module, WindowAttention)]
    assert [(a.window, a.shift) for a in attentions] == [(4, 0), (4, 2), (4, 0), (4, 2), (3, 0), (3, 0)]
    assert attentions[4].relative_position_bias_table.shape == (25, 2)


def test_weights_start_as_they_should() -> None:
    torch.manual_seed(0)
    trunk = SwinTransformer(embed_dim=64, depths=(1, 1), num_heads=(2, 2))
    for name, parameter in trunk.named_parameters():
        if name.endswith("relative_position_bias_table") or (name.endswith("weight") and parameter.ndim == 2):
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name
        elif name.endswith("bias") and not name.startswith("patch_embed.proj"):
            assert not parameter.any(), name


def test_stochastic_depth_grows_over_all_blocks() -> None:
    rates = [module.rate for module in tiny(drop_path_rate=0.5).modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_gradients_reach_every_parameter_and_checkpointing_changes_none() -> None:
    one, other = tiny(), tiny(splits=4)
    for trunk in (one, other):
        sum(x.square().sum() for x in trunk(images(40, 24), ["stage1", "lastPOOL"])).backward()
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        assert mine.grad.abs().sum() > 0, name
        torch.testing.assert_close(theirs.grad, mine.grad)


def test_options_of_blocks() -> None:
    trunk = SwinTransformer(
        embed_dim=8,
        depths=(1,),
        num_heads=(2,),
        qkv_bias=False,
        qk_scale=0.5,
        dropout_rate=0.2,
        attention_dropout_rate=0.3,
        mlp_ratio=3.0,
    )
    (block,) = (module for module in trunk.modules() if isinstance(module, Block))
    assert isinstance(block.attn, WindowAttention)
    assert block.attn.style == Style(8, 2, 24, False, 0.5, 0.2, 0.3, norm_eps=1e-5)
    assert "layers.0.blocks.0.attn.qkv.bias" not in trunk.state_dict()
    assert trunk.pos_drop.p == 0.2
    assert block.norm1.eps == trunk.norm.eps == 1e-5
    assert not torch.equal(trunk(images(), ["lastPOOL"])[0], trunk(images(), ["lastPOOL"])[0])


@pytest.mark.parametrize(
    "config, path, text",
    [
        (SwinTransformerConf(depths=(2, 2)), "num_heads", "4 entries for the 2 stages of depths"),
        (
            SwinTransformerConf(num_heads=(5, 6, 12, 24)),
            "num_heads",
            "5 heads do not divide the width of stage 1 of 96",
        ),
        (SwinTransformerConf(image_size=28), "image_size", "28 leaves the last stage no token; 32 leaves it one"),
    ],
)
def test_what_cannot_work_is_a_problem_of_the_config_and_refused_when_built(
    config: SwinTransformer, path: str, text: str
) -> None:
    problems = list(SwinTransformer.problems(config, FACTS))
    assert [problem.path for problem in problems] == [path]
    assert text in problems[0].message
    options = {key: getattr(config, key) for key in ("depths", "num_heads", "image_size")}
    with pytest.raises(ValueError, match=text):
        SwinTransformer(**options)

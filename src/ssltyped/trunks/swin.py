"""Swin transformer: attention within windows that shift from block to block, on maps that get smaller and wider."""

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Optional

import torch
from annotated_types import Ge, Gt, Lt, MinLen
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk
from ssltyped.trunks.transformer import Block, Grid, Linear, PatchEmbed, Style, drawn, drop_path_rates, relative_index
from ssltyped.types import Problem

NORM_EPS = 1e-5
OTHER_REGION = -100.0
"""Added to the logits of two tokens that were no neighbours before the shift, as the authors' code does."""


class WindowAttention(nn.Module):
    """Attention among the tokens of each window, with a learned bias for every offset within a window.

    The map is padded at the bottom and the right to whole windows (with zeros, which are attended to), and rolled up
    and left by `shift` before and back after; tokens that come together only by the roll do not see each other. On a
    map whose shorter side is no longer than a window, windows have that side and there is no shift; two tokens of them
    have the bias of their offset. (VISSL takes the first rows of the index there, which are those of other offsets.)
    """

    def __init__(self, style: Style, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift, self.style = window, shift, style
        self.relative_position_bias_table = drawn((2 * window - 1) ** 2, style.num_heads)
        self.relative_position_index = nn.Buffer(relative_index((window, window)))
        self.qkv = Linear(style.dim, 3 * style.dim, bias=style.qkv_bias)
        self.proj = Linear(style.dim, style.dim)

    def forward(self, x: Float[Tensor, "B H W D"]) -> Float[Tensor, "B H W D"]:
        height, width = x.shape[1:3]
        window = min(self.window, height, width)
        shift = self.shift if min(height, width) > self.window else 0
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        padded = (x.shape[1], x.shape[2])
        x = self._attended(windows(x.roll((-shift, -shift), (1, 2)), window), self._bias(padded, window, shift))
        x = F.dropout(self.proj(x), self.style.dropout_rate, self.training)
        x = picture(x, padded).roll((shift, shift), (1, 2))
        return x[:, :height, :width]

    def _attended(self, x: Float[Tensor, "B N T D"], bias: Float[Tensor, "1 Nh T T"]) -> Float[Tensor, "B N T D"]:
        """A head of a window is a head of its own for the kernel, so that no image needs its own copy of the biases."""
        qkv: Tensor = self.qkv(x)
        q, k, v = qkv.view(*x.shape[:3], 3, self.style.num_heads, -1).permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        y = self.style.attend((q, k, v), bias, self.training)
        return y.view(x.shape[0], x.shape[1], self.style.num_heads, x.shape[2], -1).transpose(2, 3).flatten(3)

    def _bias(self, padded: Grid, window: int, shift: int) -> Float[Tensor, "1 Nh T T"]:
        """What is added to the logits of each head of each window."""
        side = self.window
        index = self.relative_position_index.view(side, side, side, side)[:window, :window, :window, :window]
        bias = self.relative_position_bias_table[index.reshape(window**2, window**2)].permute(2, 0, 1)
        if not shift:
            count = padded[0] * padded[1] // window**2
            return bias.expand(count, -1, -1, -1).flatten(0, 1).unsqueeze(0)
        regions = [_regions(size, window, shift, bias.device) for size in padded]
        region = windows((3 * regions[0][:, None] + regions[1]).view(1, *padded, 1), window).view(-1, window**2)
        apart = region.unsqueeze(1) != region.unsqueeze(2)
        return (bias + OTHER_REGION * apart.unsqueeze(1)).flatten(0, 1).unsqueeze(0)


def _regions(size: int, window: int, shift: int, device: torch.device) -> Int64[Tensor, "S"]:
    """Along a rolled side: 0 before the last window, 2 for what was rolled round, 1 between."""
    place = torch.arange(size, device=device)
    return (place >= size - window).long() + (place >= size - shift).long()


def windows(x: Shaped[Tensor, "B H W D"], window: int) -> Shaped[Tensor, "B N T D"]:
    """The N windows of a map, row by row, and the T = window^2 tokens of each, row by row."""
    batch, height, width, dim = x.shape
    x = x.view(batch, height // window, window, width // window, window, dim).transpose(2, 3)
    return x.reshape(batch, -1, window**2, dim)


def picture(x: Shaped[Tensor, "B N T D"], size: Grid) -> Shaped[Tensor, "B H W D"]:
    """The map of this size whose `windows` these are."""
    batch, _, tokens, dim = x.shape
    window = math.isqrt(tokens)
    x = x.view(batch, size[0] // window, size[1] // window, window, window, dim).transpose(2, 3)
    return x.reshape(batch, *size, dim)


class Merging(nn.Module):
    """Each 2 x 2 neighbours side by side, normalized and mapped to 2 D features; odd maps get a row or column of 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=NORM_EPS)
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Float[Tensor, "B H W D"]) -> Float[Tensor, "B h w E"]:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Tensor = self.reduction(self.norm(torch.cat(corners, dim=-1)))
        return merged


class NormalizedPatches(PatchEmbed):
    """Patches mapped to D features and normalized, as B h w D; images are padded with 0 to whole patches."""

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__(in_channels, dim, patch_size)
        self.patch_size = patch_size
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        images = F.pad(images, (0, -images.shape[3] % self.patch_size, 0, -images.shape[2] % self.patch_size))
        normed: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return normed


class SwinStage(nn.Module):
    """Blocks of one width, of which every second one shifts its windows; and, but in the last stage, what follows."""

    def __init__(self, style: Style, window: int, shift: int, drop_path_rates: list[float], last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(style, WindowAttention(style, window, shift if i % 2 else 0), rate)
            for i, rate in enumerate(drop_path_rates)
        )
        self.downsample = None if last else Merging(style.dim)


class SwinTransformer(StagedTrunk):
    """Swin: images (B C H W) of any size to the maps of its stages and the mean of the last one's normalized tokens.

        stage{i}   output of stage i = 1, 2, ...    (B 2^(i-1)D H/(p 2^(i-1)) W/(p 2^(i-1))), rounded up
        lastPOOL   mean over tokens of norm(last stage)    (B 2^(n-1)D)

    Patches of p x p pixels become tokens of D features. A stage is a row of pre-norm blocks (attention within windows
    of w x w tokens, windows shifted by w // 2 in every second block, then an MLP); between stages 2 x 2 tokens become
    one of twice the features. A stage whose map, for images of `image_size`, is no larger than a window has windows of
    its map's side, which are not shifted. For images of other sizes maps are padded to whole windows.

    Liu et al. 2021 (arXiv 2103.14030), sections 3.1 and 3.2; the default is Swin-T. Norms have eps 1e-5; linear layers
    and biases of offsets start from a truncated normal of std 0.02, biases at 0. torchvision's blocks compute the same
    at 224 pixels, but pad a map smaller than a window up to it. Raises ValueError for an unknown feature, depths and
    num_heads of different lengths, heads that do not divide their width, an image_size that leaves a stage nothing.

    Args:
        image_size: side of the images for which windows are laid out, in pixels.
        patch_size: side of a patch p, in pixels.
        embed_dim: features D of a token in the first stage.
        depths: blocks of each stage.
        num_heads: heads in each stage; they divide its width.
        window_size: side w of a window, in tokens.
        mlp_ratio: hidden features of each MLP over its width.
        dropout_rate: dropout after the patches, after each attention and twice in each MLP.
        attention_dropout_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; it grows in equal steps from 0 at the first.
        qkv_bias: queries, keys and values have a bias.
        qk_scale: factor of q . k; None is 1 / sqrt(features of a head).
    """

    def __init__(
        self,
        *,
        image_size: Annotated[int, Gt(0)] = 224,
        patch_size: Annotated[int, Gt(0)] = 4,
        embed_dim: Annotated[int, Gt(0)] = 96,
        depths: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (2, 2, 6, 2),
        num_heads: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (3, 6, 12, 24),
        window_size: Annotated[int, Gt(0)] = 7,
        mlp_ratio: Annotated[float, Gt(0)] = 4.0,
        dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        attention_dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        drop_path_rate: Annotated[float, Ge(0), Lt(1)] = 0.1,
        qkv_bias: bool = True,
        qk_scale: Optional[Annotated[float, Gt(0)]] = None,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.image_size, self.patch_size, self.embed_dim, self.depths = image_size, patch_size, embed_dim, depths
        self.num_heads, self.window_size, self.mlp_ratio = num_heads, window_size, mlp_ratio
        self.dropout_rate, self.attention_dropout_rate = dropout_rate, attention_dropout_rate
        self.drop_path_rate, self.qkv_bias, self.qk_scale = drop_path_rate, qkv_bias, qk_scale
        refuse(SwinTransformer._faults(self))
        self.patch_embed = NormalizedPatches(self.input.seen_channels, embed_dim, patch_size)
        self.pos_drop = nn.Dropout(dropout_rate)
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.layers = nn.ModuleList()
        for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            dim, side = embed_dim * 2**i, image_size // patch_size // 2**i
            window, shift = (window_size, window_size // 2) if side > window_size else (side, 0)
            hidden, dropouts = int(dim * mlp_ratio), (dropout_rate, attention_dropout_rate)
            style = Style(dim, heads, hidden, qkv_bias, qk_scale, *dropouts, norm_eps=NORM_EPS)
            self.layers.append(SwinStage(style, window, shift, list(islice(rates, depth)), i == len(depths) - 1))
        self.norm = nn.LayerNorm(embed_dim * 2 ** (len(depths) - 1), eps=NORM_EPS)

    @property
    def feature_dims(self) -> Mapping[str, int]:
        dims = {f"stage{i + 1}": self.embed_dim * 2**i for i in range(len(self.depths))}
        return {**dims, "lastPOOL": dims[f"stage{len(dims)}"]}

    def stages(self) -> Iterator[Stage]:
        yield Stage(None, lambda images: self.pos_drop(self.patch_embed(images)))
        for number, layer in enumerate(self.layers, start=1):
            assert isinstance(layer, SwinStage)
            yield from (Stage(None, block) for block in layer.blocks)
            yield Stage(f"stage{number}", lambda x: x.permute(0, 3, 1, 2))
            yield Stage(None, lambda x: x.permute(0, 2, 3, 1))
            if layer.downsample is not None:
                yield Stage(None, layer.downsample)
        yield Stage("lastPOOL", lambda x: self.norm(x).mean((1, 2)))

    def _faults(self) -> Iterator[Problem]:
        if len(self.depths) != len(self.num_heads):
            yield Problem("num_heads", f"{len(self.num_heads)} entries for the {len(self.depths)} stages of depths")
        for i, heads in enumerate(self.num_heads):
            yield from Style.problems(f"width of stage {i + 1}", self.embed_dim * 2**i, heads)
        if self.image_size < (least := self.patch_size * 2 ** (len(self.depths) - 1)):
            yield Problem("image_size", f"{self.image_size} leaves the last stage no token; {least} leaves it one")


SwinTransformerConf = config_for(SwinTransformer)

"""XCiT: attention between features instead of tokens, and a class token that reads the patches at the end."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, Optional

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk, check_names
from ssltyped.trunks.transformer import MLP, DropPath, Grid, Linear, Style, drawn
from ssltyped.types import Features, Problem

CLASS_LAYERS = 2
POSITION_DIM = 32
POSITION_TEMPERATURE = 10000.0


class ConvPatchEmbed(nn.Module):
    """3x3 convolutions of stride 2, each with batch norm and gelus between them; the last has `dim` channels."""

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        widths = [in_channels, *(dim // 2**i for i in reversed(range(int(math.log2(patch_size)))))]
        self.proj = nn.Sequential()
        for before, after in pairwise(widths):
            if len(self.proj):
                self.proj.append(nn.GELU())
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            self.proj.append(nn.Sequential(conv, nn.BatchNorm2d(after)))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        patches: Tensor = self.proj(images)
        return patches


class FourierPositions(nn.Module):
    """Sines and cosines of the relative height and width of each patch, mapped to D features by a 1x1 convolution.

    Of p = 2 pi (i + 1) / n, n the patches along that side: sin(p / f_k), cos(p / f_k), f_k = 10000^(2k / 32), k < 16.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token_projection = nn.Conv2d(2 * POSITION_DIM, dim, 1)

    def forward(self, grid: Grid) -> Float[Tensor, "1 D h w"]:
        weight = self.token_projection.weight
        even = torch.arange(0, POSITION_DIM, 2, device=weight.device)
        frequencies = POSITION_TEMPERATURE ** (-even / POSITION_DIM)
        sides: list[Tensor] = []
        for count in grid:
            places = 2 * math.pi * torch.arange(1, count + 1, device=weight.device) / (count + 1e-6)
            angles = places[:, None] * frequencies
            sides.append(torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1))
        rows = sides[0][:, None].expand(-1, grid[1], -1)
        columns = sides[1][None].expand(grid[0], -1, -1)
        waves = torch.cat([rows, columns], dim=2).permute(2, 0, 1).unsqueeze(0)
        positions: Tensor = self.token_projection(waves.to(weight.dtype))
        return positions


class CrossCovarianceAttention(nn.Module):
    """Each feature of a head is a mixture of that head's features: softmax(t k^T q) over d x d, not T x T.

    q and k are normalized over the tokens, t is a learned temperature of each head. El-Nouby et al. 2021, eq. 2.
    """

    def __init__(self, style: Style) -> None:
        super().__init__()
        self.style = style
        self.temperature = nn.Parameter(torch.ones(style.num_heads, 1, 1))
        self.qkv = Linear(style.dim, 3 * style.dim, bias=style.qkv_bias)
        self.proj = Linear(style.dim, style.dim)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        qkv: Tensor = self.qkv(x).view(*x.shape[:2], 3, self.style.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 4, 1)
        mixture = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(2, 3) * self.temperature).softmax(-1)
        mixture = F.dropout(mixture, self.style.attention_dropout_rate, self.training)
        y = (mixture @ v).flatten(1, 2).transpose(1, 2)
        return F.dropout(self.proj(y), self.style.dropout_rate, self.training)


class LocalPatchInteraction(nn.Module):
    """Two depthwise 3x3 convolutions over the grid of patches, with a gelu and a batch norm between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.bn = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Float[Tensor, "B L D"], grid: Grid) -> Float[Tensor, "B L D"]:
        picture = x.transpose(1, 2).reshape(x.shape[0], -1, *grid)
        mixed: Tensor = self.conv2(self.bn(F.gelu(self.conv1(picture))))
        return mixed.flatten(2).transpose(1, 2)


class XCABlock(nn.Module):
    """Features mix, then neighbours, then each patch's features; every branch is scaled by a learned gamma."""

    def __init__(self, style: Style, drop_path_rate: float, eta: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = style.norm(), style.norm(), style.norm()
        self.attn = CrossCovarianceAttention(style)
        self.local_mp = LocalPatchInteraction(style.dim)
        self.mlp = MLP(style)
        self.drop_path = DropPath(drop_path_rate)
        self.gamma1, self.gamma2, self.gamma3 = (nn.Parameter(torch.full((style.dim,), eta)) for _ in range(3))

    def forward(self, patches: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        grid = (patches.shape[2], patches.shape[3])
        x = patches.flatten(2).transpose(1, 2)
        x = x + self.drop_path(self.gamma1 * self.attn(self.norm1(x)))
        x = x + self.drop_path(self.gamma3 * self.local_mp(self.norm3(x), grid))
        x = x + self.drop_path(self.gamma2 * self.mlp(self.norm2(x)))
        patches = x.transpose(1, 2).reshape(patches.shape)
        return patches


class ClassAttention(nn.Module):
    """The class token, the first, becomes what it reads from all tokens; the others stay (Touvron et al. 2021b)."""

    def __init__(self, style: Style) -> None:
        super().__init__()
        self.style = style
        self.qkv = Linear(style.dim, 3 * style.dim, bias=style.qkv_bias)
        self.proj = Linear(style.dim, style.dim)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.style.num_heads, -1).permute(2, 0, 3, 1, 4)
        y = self.style.attend((q[:, :, :1], k, v), None, self.training).transpose(1, 2).flatten(2)
        y = F.dropout(self.proj(y), self.style.dropout_rate, self.training)
        return torch.cat([y, x[:, 1:]], dim=1)


class ClassAttentionBlock(nn.Module):
    """The class token reads, then goes through an MLP. What the authors' code does to patches on the way stays:

    they get gamma1 times their normalized selves added, are normalized (with `tokens_norm`) and doubled; published
    weights were trained so. The class token does not see it but in the next block.
    """

    def __init__(self, style: Style, eta: float, tokens_norm: bool) -> None:
        super().__init__()
        self.tokens_norm = tokens_norm
        self.norm1, self.norm2 = style.norm(), style.norm()
        self.attn = ClassAttention(style)
        self.mlp = MLP(style)
        self.gamma1, self.gamma2 = (nn.Parameter(torch.full((style.dim,), eta)) for _ in range(2))

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        x = x + self.gamma1 * self.attn(self.norm1(x))
        x = self.norm2(x) if self.tokens_norm else torch.cat([self.norm2(x[:, :1]), x[:, 1:]], dim=1)
        x = x + torch.cat([self.gamma2 * self.mlp(x[:, :1]), x[:, 1:]], dim=1)
        return x


class XCiT(StagedTrunk):
    """XCiT: images (B C H W) of any size to the normalized class token and patches.

        lastMAP   patches (B h w D), h = H / patch_size rounded up        lastCLS   class token (B D)

    Convolutions embed the patches, Fourier features of their places are added, L blocks of cross-covariance attention,
    local patch interaction and an MLP follow; a class token then reads them in 2 class attention blocks. Stochastic
    depth has the same rate in all L blocks, and none in the last two. El-Nouby et al. 2021 (arXiv 2106.09681),
    sections 3.2 to 3.4 and table 1; the default is XCiT-S12/16. Norms have eps 1e-6; linear layers and the class token
    start from a truncated normal of std 0.02, biases at 0, temperatures at 1, convolutions as PyTorch's. Raises
    ValueError for an unknown feature, heads or halvings of the width that do not divide it.

    Args:
        patch_size: side of a patch, in pixels; 8 and 16 are 3 and 4 convolutions of stride 2.
        hidden_dim: features of a token, D.
        num_layers: blocks of cross-covariance attention, L.
        num_heads: heads of each attention; they divide hidden_dim.
        mlp_ratio: hidden features of each MLP over hidden_dim.
        dropout_rate: dropout after the positions, after each attention and twice in each MLP.
        attention_dropout_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of each of the L blocks.
        eta: what the factors gamma of the branches start from; smaller for deeper networks (section 3.4).
        tokens_norm: class attention blocks normalize all tokens before the MLP, not the class token alone.
        qkv_bias: queries, keys and values have a bias.
        qk_scale: factor of q . k in class attention; None is 1 / sqrt(hidden_dim / num_heads).
    """

    def __init__(
        self,
        *,
        patch_size: Literal[8, 16] = 16,
        hidden_dim: Annotated[int, Gt(0)] = 384,
        num_layers: Annotated[int, Gt(0)] = 12,
        num_heads: Annotated[int, Gt(0)] = 8,
        mlp_ratio: Annotated[float, Gt(0)] = 4.0,
        dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        attention_dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        drop_path_rate: Annotated[float, Ge(0), Lt(1)] = 0.05,
        eta: Annotated[float, Gt(0)] = 1.0,
        tokens_norm: bool = True,
        qkv_bias: bool = True,
        qk_scale: Optional[Annotated[float, Gt(0)]] = None,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.patch_size, self.hidden_dim, self.num_heads = patch_size, hidden_dim, num_heads
        self.num_layers, self.mlp_ratio, self.eta, self.tokens_norm = num_layers, mlp_ratio, eta, tokens_norm
        self.dropout_rate, self.attention_dropout_rate = dropout_rate, attention_dropout_rate
        self.drop_path_rate, self.qkv_bias, self.qk_scale = drop_path_rate, qkv_bias, qk_scale
        refuse(XCiT._faults(self))
        dropouts = dropout_rate, attention_dropout_rate
        style = Style(hidden_dim, num_heads, int(hidden_dim * mlp_ratio), qkv_bias, qk_scale, *dropouts)
        self.patch_embed = ConvPatchEmbed(self.input.seen_channels, hidden_dim, patch_size)
        self.pos_embed = FourierPositions(hidden_dim)
        self.pos_drop = nn.Dropout(dropout_rate)
        self.blocks = nn.ModuleList(XCABlock(style, drop_path_rate, eta) for _ in range(num_layers))
        self.cls_token = drawn(1, 1, hidden_dim)
        self.cls_blocks = nn.ModuleList(ClassAttentionBlock(style, eta, tokens_norm) for _ in range(CLASS_LAYERS))
        self.norm = style.norm()

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {"lastMAP": self.hidden_dim, "lastCLS": self.hidden_dim}

    def stages(self) -> Iterator[Stage]:
        """From images to the normalized tokens."""
        yield Stage(None, self.patch_embed)
        yield Stage(None, lambda x: self.pos_drop(x + self.pos_embed((x.shape[2], x.shape[3]))))
        yield from (Stage(None, block) for block in self.blocks)
        yield Stage(None, self._with_class_token)
        yield from (Stage(None, block) for block in self.cls_blocks)
        yield Stage("tokens", self.norm)

    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        check_names(features, self.feature_dims)
        x = self.walk(self.input.see(images), list(self.stages()), {"tokens"})["tokens"]
        height, width = (-(-side // self.patch_size) for side in images.shape[2:])
        found = {"lastMAP": x[:, 1:].reshape(x.shape[0], height, width, -1), "lastCLS": x[:, 0]}
        return [found[name] for name in features]

    def _with_class_token(self, patches: Float[Tensor, "B D h w"]) -> Float[Tensor, "B T D"]:
        x = patches.flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)

    def _faults(self) -> Iterator[Problem]:
        yield from Style.problems("hidden_dim", self.hidden_dim, self.num_heads)
        if self.patch_size not in (8, 16):
            yield Problem("patch_size", f"{self.patch_size} is neither 8 nor 16")
        elif self.hidden_dim % (self.patch_size // 2):
            yield Problem("hidden_dim", f"{self.hidden_dim} cannot be halved for each convolution of the patches")


XCiTConf = config_for(XCiT)

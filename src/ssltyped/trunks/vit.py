"""Vision transformer: how images become tokens, how they are masked, what is read of them, and plain blocks."""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, NamedTuple, Optional, Self

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk, check_names
from ssltyped.trunks.transformer import Attention, Block, Grid, PatchEmbed, Style, drawn, drop_path_rates
from ssltyped.types import PATCH_SIZE, Features, MaskedTrunk, Problem, Published


class Masking(Enum):
    """What becomes of masked patches.

    `NONE`: there are none. `REPLACE`: a learned token takes the place of a masked patch before positions are added
    (BEiT, iBOT). `DROP`: masked patches are left out once positions are added (MAE, MSN).
    """

    NONE = "none"
    REPLACE = "replace"
    DROP = "drop"


class Part(Enum):
    """Which of the normalized tokens after a block a feature is made of."""

    CLASS = "class"
    POOL = "pool"
    MAP = "map"
    ALL = "all"


class Reading(NamedTuple):
    """A feature: a part of the tokens after each of some blocks, side by side."""

    blocks: tuple[int, ...]
    part: Part


@functools.cache
def readings(num_layers: int, class_token: bool) -> Mapping[str, Reading]:
    """The features of a row of blocks by name, the default one last.

        blkCLS{i}          class token after block i, 0 <= i < L              lastCLS  = blkCLS{L-1}
        concatCLS{n}       class tokens after the last n blocks
        blkBLK{i}          all tokens after block i                           lastBLK  = blkBLK{L-1}
        concatBLK{n}       all tokens after the last n blocks
        lastPOOL           mean of the patches after the last block           lastMAP  patches as a grid
        concatPOOL{n}      means after the last n blocks
        stridePOOL_{n}_{s} means after n blocks, from the last one backwards in steps of s
        stridePOOL_{n}     s = ceil(L / n), where n steps of that fit

    Those with CLS need a class token; without one the default is lastPOOL, with one lastCLS.
    """
    every = tuple(range(num_layers))
    last = every[-1:]
    found: dict[str, Reading] = {}
    for i in every:
        if class_token:
            found[f"blkCLS{i}"] = Reading((i,), Part.CLASS)
        found[f"blkBLK{i}"] = Reading((i,), Part.ALL)
    for kind, part in {"CLS": Part.CLASS, "BLK": Part.ALL, "POOL": Part.POOL}.items():
        if class_token or part is not Part.CLASS:
            found |= {f"concat{kind}{n}": Reading(every[-n:], part) for n in range(1, num_layers + 1)}
    for count, stride in itertools.product(range(1, num_layers + 1), repeat=2):
        blocks = every[::-stride][:count]
        if len(blocks) == count:
            found[f"stridePOOL_{count}_{stride}"] = Reading(blocks, Part.POOL)
            if stride == -(-num_layers // count):
                found[f"stridePOOL_{count}"] = Reading(blocks, Part.POOL)
    found |= {"lastMAP": Reading(last, Part.MAP), "lastBLK": Reading(last, Part.ALL)}
    found["lastPOOL"] = Reading(last, Part.POOL)
    return found | ({"lastCLS": Reading(last, Part.CLASS)} if class_token else {})


class TokenTrunk(StagedTrunk, MaskedTrunk):
    """Patches (and a class token before them), plus positions, through blocks of one width D.

    All features but lastMAP (B h w D) and those of all tokens (B T D) are (B n D) flattened to (B nD). Every one is
    normalized by `norm`, also those of earlier blocks. Positions belong to the grid of `image_size`; for images of
    another size they are interpolated (bicubic). A subclass has these fields, calls `_start`, then makes its blocks.

    Args:
        image_size: side of the images for which positions are learned, in pixels.
        patch_size: side of a patch, in pixels.
        num_layers: blocks, L.
        num_heads: heads of each attention; they divide hidden_dim.
        hidden_dim: features of a token, D.
        attention_dropout_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; it grows in equal steps from 0 at the first.
        qk_scale: factor of q . k; None is 1 / sqrt(hidden_dim / num_heads).
        masking: what becomes of the patches that a mask marks.
    """

    image_size: int
    patch_size: int
    num_heads: int
    hidden_dim: int
    dropout_rate: float
    masking: Masking
    blocks: nn.ModuleList
    norm: nn.Module

    def _start(self, *, class_token: bool, positions: bool) -> None:
        """Make what comes before the blocks."""
        dim, side = self.hidden_dim, self.image_size // self.patch_size
        self.grid: Grid = (side, side)
        self.cls_token = drawn(1, 1, dim) if class_token else None
        self.pos_embed = drawn(1, side**2 + class_token, dim) if positions else None
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim)) if self.masking is Masking.REPLACE else None
        self.patch_embed = PatchEmbed(self.input.seen_channels, dim, self.patch_size)
        self.pos_drop = nn.Dropout(self.dropout_rate)

    def _faults(self) -> Iterable[Problem]:
        yield from PatchEmbed.problems(self.image_size, self.patch_size)
        yield from Style.problems("hidden_dim", self.hidden_dim, self.num_heads)

    @classmethod
    def publish(cls, config: Self) -> Iterable[Published]:
        yield PATCH_SIZE.being(config.patch_size)

    @property
    def readings(self) -> Mapping[str, Reading]:
        """How each feature is made of tokens."""
        return readings(len(self.blocks), self.cls_token is not None)

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {name: len(reading.blocks) * self.hidden_dim for name, reading in self.readings.items()}

    def stages(self) -> Iterable[Stage]:
        return self.stages_on(self.grid)

    def stages_on(self, grid: Grid) -> list[Stage]:
        """The blocks for images with this grid of patches, named block0 ..."""
        return [Stage(f"block{i}", block) for i, block in enumerate(self.blocks)]

    def forward(
        self, images: Float[Tensor, "B C H W"], features: Sequence[str], mask: Optional[Bool[Tensor, "B h w"]] = None
    ) -> Features:
        check_names(features, self.feature_dims)
        known = self.readings
        wanted = {name: known[name] for name in features}
        if self.masking is Masking.DROP and mask is not None and Part.MAP in {part for _, part in wanted.values()}:
            raise ValueError("lastMAP: patches that are left of a masked image are no grid; ask for lastBLK")
        x, grid = self.embed(self.input.see(images), mask)
        blocks = {f"block{i}" for reading in wanted.values() for i in reading.blocks}
        tokens = self.walk(x, self.stages_on(grid), blocks)
        normed: dict[str, Tensor] = {name: self.norm(x) for name, x in tokens.items()}
        found = {name: self.read(reading, normed, grid) for name, reading in wanted.items()}
        return [found[name] for name in features]

    def embed(
        self, images: Float[Tensor, "B C H W"], mask: Optional[Bool[Tensor, "B h w"]]
    ) -> tuple[Float[Tensor, "B T D"], Grid]:
        """The tokens that go into the first block, and the grid of all patches."""
        patches: Tensor = self.patch_embed(images)
        grid = (patches.shape[2], patches.shape[3])
        x = patches.flatten(2).transpose(1, 2)
        if mask is not None:
            if self.masking is Masking.NONE:
                raise ValueError("a mask was given, and masking is NONE: REPLACE and DROP use it")
            if tuple(mask.shape) != (needed := (len(x), *grid)):
                raise ValueError(f"the mask has the shape {tuple(mask.shape)}, and the images have patches {needed}")
            if self.mask_token is not None:
                x = torch.where(mask.flatten(1).unsqueeze(2), self.mask_token.to(x.dtype), x)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self._positions(grid)
        if mask is not None and self.masking is Masking.DROP:
            x = self._left(x, mask.flatten(1))
        return self.pos_drop(x), grid

    def _positions(self, grid: Grid) -> Float[Tensor, "1 T D"] | float:
        if self.pos_embed is None:
            return 0.0
        first = 0 if self.cls_token is None else 1
        patches = resized_positions(self.pos_embed[:, first:], self.grid, grid)
        return torch.cat([self.pos_embed[:, :first], patches], dim=1)

    def _left(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B t D"]:
        """The class token and the patches that are not masked."""
        if mask.is_meta:  # a plan: how many are masked is not known, all patches are the most there can be
            return x
        counts = mask.sum(1)
        masked = set(counts.tolist())  # the only number that a GPU is waited for
        if len(masked) > 1:
            raise ValueError(f"each image must have as many masked patches as the others; there are {sorted(masked)}")
        all_masked = torch.cat([mask.new_zeros(len(x), x.shape[1] - mask.shape[1]), mask], dim=1)
        left = all_masked.byte().argsort(dim=1, stable=True)[:, : x.shape[1] - max(masked)]
        return x.gather(1, left[:, :, None].expand(-1, -1, x.shape[2]))

    def read(self, reading: Reading, tokens: Mapping[str, Tensor], grid: Grid) -> Tensor:
        """A feature of the normalized tokens after each block that was asked for."""
        first = 0 if self.cls_token is None else 1
        parts: list[Tensor] = []
        for i in reading.blocks:
            x = tokens[f"block{i}"]
            if reading.part is Part.CLASS:
                x = x[:, 0]
            elif reading.part is Part.POOL:
                x = x[:, first:].mean(1)
            elif reading.part is Part.MAP:
                x = x[:, first:].reshape(x.shape[0], *grid, -1)
            parts.append(x)
        return torch.cat(parts, dim=-1)


def resized_positions(positions: Float[Tensor, "1 L D"], old: Grid, new: Grid) -> Float[Tensor, "1 l D"]:
    """Positions of the patches of one grid, bicubic between the centres of those of another."""
    if old == new:
        return positions
    picture = positions.transpose(1, 2).reshape(1, -1, *old)
    return F.interpolate(picture, size=new, mode="bicubic").flatten(2).transpose(1, 2)


class VisionTransformer(TokenTrunk):
    """ViT: images (B C H W) to tokens, L blocks of attention and MLP, and features of the normalized tokens.

        x_0 = [class token; patches W_p + b_p] + positions                     (B 1+hw D), h = H // patch_size
        y   = x_l + drop(attention(norm(x_l)))
        x_{l+1} = y + drop(mlp(norm(y)))
        feature = norm(x_L)[0], ...

    Features (`readings`): lastCLS (B D), blkCLS{i}, concatCLS{n} (B nD); lastMAP (B h w D);
    lastBLK (B 1+hw D), blkBLK{i}, concatBLK{n}; lastPOOL, concatPOOL{n}, stridePOOL_{n}_{s}: means over the patches.
    The default is lastCLS, or lastPOOL without class token. The final norm is applied to all of them. With masking
    DROP, lastBLK has the class token and the patches that are left. The other fields are those of `TokenTrunk`.

    Dosovitskiy et al. 2021 (arXiv 2010.11929); sizes: table 1, the default is ViT-B/16, and ViT-S is 384 wide with 6
    heads (Touvron et al. 2021, arXiv 2012.12877). Norms have eps 1e-6; linear layers, tokens and positions start from
    a truncated normal of std 0.02, biases at 0, the patches' map as PyTorch's convolutions. Positions are learned for
    `image_size` and interpolated for other sizes. `mask` in forward: true is a masked patch, one flag a patch; raises
    ValueError if it has another grid, if masking is NONE, if DROP finds images with different numbers of masked
    patches, or for lastMAP of a masked image with DROP. Constructor: ValueError for widths or sizes that do not fit.

    Args:
        mlp_dim: hidden features of each MLP.
        dropout_rate: dropout after the positions, after each attention and twice in each MLP.
        qkv_bias: queries, keys and values have a bias, as in the paper's code and DeiT's.
        use_class_token: there is a class token before the patches.
        layer_scale: what learned factors of the residual branches, one a feature, start from; null: there are none.
            1e-5 in DINOv2 (Oquab et al. 2023, arXiv 2304.07193, table 16).
    """

    def __init__(
        self,
        *,
        image_size: Annotated[int, Gt(0)] = 224,
        patch_size: Annotated[int, Gt(0)] = 16,
        num_layers: Annotated[int, Gt(0)] = 12,
        num_heads: Annotated[int, Gt(0)] = 12,
        hidden_dim: Annotated[int, Gt(0)] = 768,
        mlp_dim: Annotated[int, Gt(0)] = 3072,
        dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        attention_dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        drop_path_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        qkv_bias: bool = True,
        qk_scale: Optional[Annotated[float, Gt(0)]] = None,
        use_class_token: bool = True,
        layer_scale: Optional[Annotated[float, Gt(0)]] = None,
        masking: Masking = Masking.NONE,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.image_size, self.patch_size, self.num_layers = image_size, patch_size, num_layers
        self.num_heads, self.hidden_dim, self.mlp_dim = num_heads, hidden_dim, mlp_dim
        self.use_class_token, self.layer_scale, self.masking = use_class_token, layer_scale, masking
        self.dropout_rate, self.attention_dropout_rate = dropout_rate, attention_dropout_rate
        self.drop_path_rate, self.qkv_bias, self.qk_scale = drop_path_rate, qkv_bias, qk_scale
        refuse(VisionTransformer._faults(self))
        self._start(class_token=use_class_token, positions=True)
        style = Style(hidden_dim, num_heads, mlp_dim, qkv_bias, qk_scale, dropout_rate, attention_dropout_rate)
        rates = drop_path_rates(drop_path_rate, num_layers)
        self.blocks = nn.ModuleList(Block(style, Attention(style), rate, layer_scale=layer_scale) for rate in rates)
        self.norm = style.norm()


VisionTransformerConf = config_for(VisionTransformer)

"""BEiT: a vision transformer with biases for relative positions, layer scale and mean pooling."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Optional

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage
from ssltyped.trunks.transformer import Attention, Block, Grid, Style, drop_path_rates, relative_index
from ssltyped.trunks.vit import Masking, Part, Reading, TokenTrunk
from ssltyped.types import Problem


class RelativeBias(nn.Module):
    """A learned number a head for each offset between two patches, and for class-patch, patch-class, class-class.

    The table has (2h - 1)(2w - 1) rows for offsets, row by row, then those three; all start at 0. For another grid the
    part for offsets is interpolated (bicubic; the farthest offset of one grid is the farthest of the other).
    """

    def __init__(self, grid: Grid, num_heads: int) -> None:
        super().__init__()
        self.grid = grid
        self.relative_position_bias_table = nn.Parameter(torch.zeros(_offsets(grid) + 3, num_heads))
        self.relative_position_index = nn.Buffer(_index(grid))

    def forward(self, grid: Grid) -> Float[Tensor, "1 h T T"]:
        table: Tensor = self.relative_position_bias_table
        index: Tensor = self.relative_position_index
        if grid != self.grid:
            old, new = ((2 * height - 1, 2 * width - 1) for height, width in (self.grid, grid))
            picture = table[:-3].T.reshape(1, -1, *old)
            offsets = F.interpolate(picture, size=new, mode="bicubic", align_corners=True).flatten(2)[0].T
            table, index = torch.cat([offsets, table[-3:]]), _index(grid).to(index.device)
        return table[index].permute(2, 0, 1).unsqueeze(0)


def _offsets(grid: Grid) -> int:
    return (2 * grid[0] - 1) * (2 * grid[1] - 1)


def _index(grid: Grid) -> Tensor:
    """The row of the table for each pair of tokens, the class token first."""
    index = F.pad(relative_index(grid), (1, 0, 1, 0), value=_offsets(grid))
    index[1:, 0] += 1
    index[0, 0] += 2
    return index


class BEiTAttention(Attention):
    """Attention whose queries and values, but not keys, have a bias, and which may have its own relative biases."""

    def __init__(self, style: Style, relative: Optional[RelativeBias]) -> None:
        super().__init__(replace(style, qkv_bias=False))
        self.relative = relative
        self.q_bias = nn.Parameter(torch.zeros(style.dim)) if style.qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(style.dim)) if style.qkv_bias else None

    def projections(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T 3*D"]:
        if self.q_bias is None or self.v_bias is None:
            return super().projections(x)
        return F.linear(x, self.qkv.weight, torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias]))


class BEiT(TokenTrunk):
    """BEiT: images (B C H W) to tokens, L blocks of attention and MLP, and features of the tokens.

    As `VisionTransformer`, with these differences. Logits of attention get a learned bias a head for the offset of two
    patches: of each block, of all blocks, or both. Queries and values have biases, keys none. With `init_values`
    each residual branch is multiplied by a learned factor a feature. MLPs have no dropout between their layers. With
    `use_mean_pooling` the default feature lastPOOL is norm(mean of the patches after the last block), and tokens are
    not normalized otherwise, neither for lastCLS, blkCLS{i}, concatCLS{n}, nor lastMAP and those of all tokens; without
    it the features are those of `VisionTransformer`, the default lastCLS. (VISSL leaves out both norm and mean.)

    Bao et al. 2022 (arXiv 2106.08254), section 2 and appendix; the default is BEiT-B/16 without relative positions.
    Weights start as those of `VisionTransformer`; the last layer of the branches of block l = 1, 2, ... is then divided
    by sqrt(2 l) (section 2.2). Masked patches are replaced by a learned token (REPLACE, as in the paper) or left out.
    The other fields are `TokenTrunk`'s. Raises ValueError as `VisionTransformer`, and for DROP with relative biases.

    Args:
        mlp_ratio: hidden features of each MLP over hidden_dim.
        dropout_rate: dropout after the positions, after each attention and after each MLP.
        qkv_bias: queries and values have a bias, as in the authors' code.
        use_abs_pos_emb: learned positions are added to the tokens.
        use_rel_pos_bias: each block has its own biases of relative positions.
        use_shared_rel_pos_bias: all blocks share biases of relative positions.
        use_mean_pooling: there is a norm for the mean of the patches, and none for single tokens.
        init_values: what the factors of the branches start from; None: there are none.
    """

    def __init__(
        self,
        *,
        image_size: Annotated[int, Gt(0)] = 224,
        patch_size: Annotated[int, Gt(0)] = 16,
        num_layers: Annotated[int, Gt(0)] = 12,
        num_heads: Annotated[int, Gt(0)] = 12,
        hidden_dim: Annotated[int, Gt(0)] = 768,
        mlp_ratio: Annotated[float, Gt(0)] = 4.0,
        dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        attention_dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        drop_path_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        qkv_bias: bool = True,
        qk_scale: Optional[Annotated[float, Gt(0)]] = None,
        use_abs_pos_emb: bool = True,
        use_rel_pos_bias: bool = False,
        use_shared_rel_pos_bias: bool = False,
        use_mean_pooling: bool = True,
        init_values: Optional[Annotated[float, Gt(0)]] = None,
        masking: Masking = Masking.NONE,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.image_size, self.patch_size, self.hidden_dim, self.masking = image_size, patch_size, hidden_dim, masking
        self.num_layers, self.num_heads, self.init_values = num_layers, num_heads, init_values
        self.use_abs_pos_emb, self.use_rel_pos_bias = use_abs_pos_emb, use_rel_pos_bias
        self.use_shared_rel_pos_bias, self.use_mean_pooling = use_shared_rel_pos_bias, use_mean_pooling
        self.mlp_ratio, self.dropout_rate, self.attention_dropout_rate = mlp_ratio, dropout_rate, attention_dropout_rate
        self.drop_path_rate, self.qkv_bias, self.qk_scale = drop_path_rate, qkv_bias, qk_scale
        refuse(BEiT._faults(self))
        self._start(class_token=True, positions=use_abs_pos_emb)
        dropouts = dropout_rate, attention_dropout_rate
        style = Style(hidden_dim, num_heads, int(hidden_dim * mlp_ratio), qkv_bias, qk_scale, *dropouts)
        self.rel_pos_bias = RelativeBias(self.grid, num_heads) if use_shared_rel_pos_bias else None
        self.blocks = nn.ModuleList()
        for i, rate in enumerate(drop_path_rates(drop_path_rate, num_layers)):
            attention = BEiTAttention(style, RelativeBias(self.grid, num_heads) if use_rel_pos_bias else None)
            block = Block(style, attention, rate, layer_scale=init_values, hidden_dropout_rate=0.0)
            for layer in (block.mlp.fc2, attention.proj):
                if not layer.weight.is_meta:
                    layer.weight.data.div_(math.sqrt(2 * (i + 1)))
            self.blocks.append(block)
        self.norm = nn.Identity() if use_mean_pooling else style.norm()
        self.fc_norm = style.norm() if use_mean_pooling else None

    @property
    def readings(self) -> Mapping[str, Reading]:
        found = super().readings
        if self.fc_norm is None:
            return found
        others = {name: reading for name, reading in found.items() if reading.part is not Part.POOL}
        return {**others, "lastPOOL": found["lastPOOL"]}

    def read(self, reading: Reading, tokens: Mapping[str, Tensor], grid: Grid) -> Tensor:
        feature = super().read(reading, tokens, grid)
        if reading.part is Part.POOL and self.fc_norm is not None:
            feature = self.fc_norm(feature)
        return feature

    def stages_on(self, grid: Grid) -> list[Stage]:
        shared = None if self.rel_pos_bias is None else self.rel_pos_bias(grid)
        return [Stage(f"block{i}", partial(_biased, block, grid, shared)) for i, block in enumerate(self.blocks)]

    def _faults(self) -> Iterator[Problem]:
        yield from TokenTrunk._faults(self)
        if self.masking is Masking.DROP and (self.use_rel_pos_bias or self.use_shared_rel_pos_bias):
            yield Problem("masking", "DROP leaves no grid of patches for biases of relative positions; take REPLACE")


def _biased(block: nn.Module, grid: Grid, shared: Optional[Tensor], x: Tensor) -> Tensor:
    """The block with its own biases, if it has any, and those that all share."""
    assert isinstance(block, Block)
    assert isinstance(block.attn, BEiTAttention)
    bias = shared
    if block.attn.relative is not None:
        own: Tensor = block.attn.relative(grid)
        bias = own if shared is None else own + shared
    x = block(x, bias)
    return x


BEiTConf = config_for(BEiT)

"""What the transformer trunks share: layers that start as they should, patches, attention, blocks."""

import dataclasses
from collections.abc import Iterator
from typing import Optional, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.types import Problem

Grid: TypeAlias = tuple[int, int]
"""Patches along the height and along the width of an image."""

INIT_STD = 0.02
"""Standard deviation of initial weights, tokens and positions: Touvron et al. 2021 (arXiv 2012.12877), section 6."""


def truncated_normal_(tensor: Tensor) -> None:
    """Fill with draws from N(0, 0.02^2) that are cut at -2 and 2; on the meta device there is nothing to draw."""
    if not tensor.is_meta:
        nn.init.trunc_normal_(tensor, std=INIT_STD)


def drawn(*shape: int) -> nn.Parameter:
    """A parameter of this shape that starts from `truncated_normal_`."""
    parameter = nn.Parameter(torch.zeros(*shape))
    truncated_normal_(parameter.data)
    return parameter


class Linear(nn.Linear):
    """x W^T + b; W starts from `truncated_normal_` and b at 0."""

    def reset_parameters(self) -> None:
        truncated_normal_(self.weight.data)
        bias: Optional[Tensor] = self.bias
        if bias is not None:
            nn.init.zeros_(bias)


class DropPath(nn.Module):
    """Stochastic depth: in training, each image's branch is 0 with probability `rate`, else times 1 / (1 - rate).

    The mean is what evaluation gives. Huang et al. 2016 (arXiv 1603.09382), for whole samples and rescaled.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Float[Tensor, "B *rest"]) -> Float[Tensor, "B *rest"]:
        if not self.training or self.rate == 0:
            return branch
        one_an_image = branch.new_ones([len(branch)] + [1] * (branch.ndim - 1))
        return branch * F.dropout(one_an_image, self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"


def drop_path_rates(last: float, count: int) -> list[float]:
    """The rates of `count` blocks: from 0 for the first in equal steps to `last` for the last."""
    return [last * i / max(1, count - 1) for i in range(count)]


@dataclasses.dataclass(frozen=True)
class Style:
    """What the blocks of a stage share. `qk_scale` is the factor of q . k; None is 1 / sqrt(dim / num_heads)."""

    dim: int
    num_heads: int
    mlp_dim: int
    qkv_bias: bool
    qk_scale: Optional[float]
    dropout_rate: float
    attention_dropout_rate: float
    norm_eps: float = 1e-6

    def norm(self) -> nn.LayerNorm:
        """A layer norm over the features of a token."""
        return nn.LayerNorm(self.dim, eps=self.norm_eps)

    def attend(
        self,
        qkv: tuple[Float[Tensor, "B h t d"], Float[Tensor, "B h T d"], Float[Tensor, "B h T d"]],
        bias: Optional[Float[Tensor, "#B h t T"]],
        training: bool,
    ) -> Float[Tensor, "B h t d"]:
        """softmax(scale q k^T + bias) v of each head, by one of PyTorch's kernels."""
        q, k, v = qkv
        dropout = self.attention_dropout_rate if training else 0.0
        bias = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=self.qk_scale)

    @staticmethod
    def problems(width_field: str, width: int, num_heads: int) -> Iterator[Problem]:
        """The heads must share the width out evenly."""
        if width % num_heads:
            yield Problem("num_heads", f"{num_heads} heads do not divide the {width_field} of {width}")


class PatchEmbed(nn.Module):
    """Linear map of each non-overlapping patch. Raises ValueError for images of which a border would not be seen."""

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        height, width = images.shape[2:]
        side = self.proj.stride[0]
        if height % side or width % side:
            raise ValueError(f"images of {height} x {width} pixels are no whole number of patches of {side}")
        patches: Tensor = self.proj(images)
        return patches

    @staticmethod
    def problems(image_size: int, patch_size: int) -> Iterator[Problem]:
        """The grid for which positions are learned must fill the image."""
        if image_size % patch_size:
            yield Problem("image_size", f"{image_size} is no multiple of the patch_size of {patch_size}")


class MLP(nn.Module):
    """fc2(gelu(fc1(x))); dropout at the end, and with `hidden_dropout_rate` before fc2."""

    def __init__(self, style: Style, hidden_dropout_rate: Optional[float] = None) -> None:
        super().__init__()
        self.hidden_dropout_rate = style.dropout_rate if hidden_dropout_rate is None else hidden_dropout_rate
        self.dropout_rate = style.dropout_rate
        self.fc1 = Linear(style.dim, style.mlp_dim)
        self.fc2 = Linear(style.mlp_dim, style.dim)

    def forward(self, x: Float[Tensor, "B *tokens D"]) -> Float[Tensor, "B *tokens D"]:
        x = F.dropout(F.gelu(self.fc1(x)), self.hidden_dropout_rate, self.training)
        return F.dropout(self.fc2(x), self.dropout_rate, self.training)


class Attention(nn.Module):
    """Multi-head self-attention: proj(softmax(scale q k^T + bias) v), heads side by side (Vaswani et al. 2017)."""

    def __init__(self, style: Style) -> None:
        super().__init__()
        self.style = style
        self.qkv = Linear(style.dim, 3 * style.dim, bias=style.qkv_bias)
        self.proj = Linear(style.dim, style.dim)

    def projections(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T 3*D"]:
        """Queries, keys and values of each token, all heads of each side by side."""
        qkv: Tensor = self.qkv(x)
        return qkv

    def forward(
        self, x: Float[Tensor, "B T D"], bias: Optional[Float[Tensor, "#B h T T"]] = None
    ) -> Float[Tensor, "B T D"]:
        q, k, v = self.projections(x).view(*x.shape[:2], 3, self.style.num_heads, -1).permute(2, 0, 3, 1, 4)
        y = self.style.attend((q, k, v), bias, self.training)
        return F.dropout(self.proj(y.transpose(1, 2).flatten(2)), self.style.dropout_rate, self.training)


class Block(nn.Module):
    """x <- x + drop(gamma_1 attn(norm1(x))), then x <- x + drop(gamma_2 mlp(norm2(x))); drop is stochastic depth.

    Pre-norm (Dosovitskiy et al. 2021, arXiv 2010.11929, eq. 2 and 3). The factors gamma, one a feature, are there if
    `layer_scale`, the value that they start from, is given (Touvron et al. 2021, arXiv 2103.17239, section 2.1).
    """

    def __init__(
        self,
        style: Style,
        attention: nn.Module,
        drop_path_rate: float,
        *,
        layer_scale: Optional[float] = None,
        hidden_dropout_rate: Optional[float] = None,
    ) -> None:
        super().__init__()
        self.norm1 = style.norm()
        self.attn = attention
        self.norm2 = style.norm()
        self.mlp = MLP(style, hidden_dropout_rate)
        self.drop_path = DropPath(drop_path_rate)
        self.gamma_1 = None if layer_scale is None else nn.Parameter(torch.full((style.dim,), layer_scale))
        self.gamma_2 = None if layer_scale is None else nn.Parameter(torch.full((style.dim,), layer_scale))

    def forward(
        self, x: Float[Tensor, "B *tokens D"], positions: Optional[Tensor] = None
    ) -> Float[Tensor, "B *tokens D"]:
        """`positions`, where there are any, is the second argument of the attention."""
        y = self.norm1(x)
        attended: Tensor = self.attn(y) if positions is None else self.attn(y, positions)
        x = x + self.drop_path(attended if self.gamma_1 is None else self.gamma_1 * attended)
        mapped: Tensor = self.mlp(self.norm2(x))
        x = x + self.drop_path(mapped if self.gamma_2 is None else self.gamma_2 * mapped)
        return x


def relative_index(grid: Grid) -> Int64[Tensor, "L L"]:
    """For patches i and j of a grid h x w: (y_i - y_j + h - 1) (2w - 1) + x_i - x_j + w - 1.

    That is the row of a table of (2h - 1)(2w - 1) offsets. Computed by NumPy: what PyTorch computes on the meta device
    loads its compiler, for which a plan would wait.
    """
    y, x = np.indices(grid).reshape(2, -1)
    rows = (y[:, None] - y + grid[0] - 1) * (2 * grid[1] - 1) + x[:, None] - x + grid[1] - 1
    return torch.tensor(rows, dtype=torch.int64)

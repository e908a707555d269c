"""ConvNeXt: a convolutional network of depthwise 7x7 convolutions and MLPs over channels."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt, MinLen
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk
from ssltyped.trunks.transformer import DropPath, Linear, drop_path_rates, truncated_normal_
from ssltyped.types import Problem

EPS = 1e-6
LAYER_SCALE = 1e-6
"""What the factors of the residual branches start from: Liu et al. 2022, table 5."""


class Conv2d(nn.Conv2d):
    """A convolution whose weights start from a truncated normal of std 0.02 and whose biases start at 0."""

    def reset_parameters(self) -> None:
        truncated_normal_(self.weight.data)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        normed: Tensor = super().forward(input.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class Block(nn.Module):
    """x + drop(gamma * fc2(gelu(fc1(norm(dwconv(x)))))); fc1 and fc2 work on the channels of each pixel."""

    def __init__(self, dim: int, drop_path_rate: float) -> None:
        super().__init__()
        self.dwconv = Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.fc1 = Linear(dim, 4 * dim)
        self.fc2 = Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), LAYER_SCALE))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.fc2(F.gelu(self.fc1(y)))
        x = x + self.drop_path(y.permute(0, 3, 1, 2))
        return x


class ConvNeXt(StagedTrunk):
    """ConvNeXt: images (B C H W) to the maps of its stages and the normalized mean of the last one.

        stage{i}   output of stage i = 1, 2, ...    (B dims[i-1] H / 2^(i+1) W / 2^(i+1))
        lastPOOL   norm(mean over pixels of the last stage)    (B dims[-1])

    A 4x4 convolution of stride 4 and a layer norm come before the first stage, a layer norm and a 2x2 convolution of
    stride 2 before each of the others (rounded down). Liu et al. 2022 (arXiv 2201.03545), section 2 and table 9;
    the default is ConvNeXt-S, and `depths=(3, 3, 9, 3)` is ConvNeXt-T. Weights start from a truncated normal of std
    0.02, biases at 0, the factors gamma at 1e-6. Its blocks compute what torchvision's do, without importing it (which
    a plan would wait for). Raises ValueError for an unknown feature or depths and dims of different lengths.

    Args:
        depths: blocks of each stage.
        dims: channels of each stage.
        drop_path_rate: stochastic depth of the last block; it grows in equal steps from 0 at the first.
    """

    def __init__(
        self,
        *,
        depths: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (3, 3, 27, 3),
        dims: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (96, 192, 384, 768),
        drop_path_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.depths, self.dims, self.drop_path_rate = depths, dims, drop_path_rate
        refuse(ConvNeXt._faults(self))
        stem = nn.Sequential(Conv2d(self.input.seen_channels, dims[0], 4, stride=4), ChannelNorm(dims[0], eps=EPS))
        merges = [nn.Sequential(ChannelNorm(a, eps=EPS), Conv2d(a, b, 2, stride=2)) for a, b in pairwise(dims)]
        self.downsample_layers = nn.ModuleList([stem, *merges])
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(dim, next(rates)) for _ in range(depth))
            for depth, dim in zip(depths, dims, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=EPS)

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {**{f"stage{i}": dim for i, dim in enumerate(self.dims, start=1)}, "lastPOOL": self.dims[-1]}

    def stages(self) -> Iterator[Stage]:
        for number, (downsample, blocks) in enumerate(zip(self.downsample_layers, self.blocks, strict=True), start=1):
            yield Stage(None, downsample)
            assert isinstance(blocks, nn.ModuleList)
            for left, block in zip(reversed(range(len(blocks))), blocks, strict=True):
                yield Stage(None if left else f"stage{number}", block)
        yield Stage("lastPOOL", lambda x: self.norm(x.mean((2, 3))))

    @property
    def num_layers(self) -> int:
        """The number of blocks: what layer-wise learning rates count."""
        return sum(self.depths)

    def layer_of(self, name: str) -> int:
        """0 for the stem, i for block i and for the merging of pixels before it, `num_layers` for the last norm."""
        part, _, rest = name.partition(".")
        if part == "norm":
            return self.num_layers
        stage, _, block = rest.partition(".")
        before = sum(self.depths[: int(stage)])
        if part == "blocks":
            return before + int(block.split(".")[0]) + 1
        return before + 1 if before else 0

    def _faults(self) -> Iterator[Problem]:
        if len(self.depths) != len(self.dims):
            yield Problem("dims", f"there are {len(self.dims)} widths for the {len(self.depths)} stages of depths")


ConvNeXtConf = config_for(ConvNeXt)

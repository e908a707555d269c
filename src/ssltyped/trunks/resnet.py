"""ResNet and ResNeXt of any width, with batch, layer or group normalization and an ImageNet or a small-image stem."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk
from ssltyped.types import Problem

NUM_BLOCKS: Mapping[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Blocks a stage: He et al. 2016a, table 1; 200: He et al. 2016b (arXiv 1603.05027), appendix."""

BASIC_DEPTHS = (18, 34)
DEFAULT_GROUPNORM_GROUPS = 32


class Norm(Enum):
    """What normalizes after each convolution; `LAYER` is one group over all channels and pixels of an image."""

    BATCH = "batch"
    LAYER = "layer"
    GROUP = "group"


class Stem(Enum):
    """`IMAGENET`: 7x7 convolution of stride 2 and max pooling; `SMALL`: 3x3 convolution of stride 1, no pooling."""

    IMAGENET = "imagenet"
    SMALL = "small"


class Conv2d(nn.Conv2d):
    """A convolution without bias that keeps height and width but for its stride.

    Its weights are drawn from N(0, 2 / fan_out) (He et al. 2015, section 2.2).
    """

    def __init__(self, in_channels: int, channels: int, size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, channels, size, stride, padding=size // 2, groups=groups, bias=False)

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


class StandardizedConv2d(Conv2d):
    """A convolution by (w - mean(w)) / (std(w) + 1e-5), mean and unbiased std over each filter (Qiao et al. 2019)."""

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (std + 1e-5)
        return F.conv2d(images, weight, None, self.stride, self.padding, self.dilation, self.groups)


@dataclasses.dataclass(frozen=True)
class Style:
    """What all blocks of one network share."""

    conv: type[Conv2d]
    norm: Callable[[int], nn.Module]
    groups: int = 1
    width_per_group: int = 64

    def shortcut(self, in_channels: int, channels: int, stride: int) -> nn.Sequential:
        """Nothing where the shapes agree, else a 1x1 convolution and a norm."""
        if stride == 1 and in_channels == channels:
            return nn.Sequential()
        return nn.Sequential(self.conv(in_channels, channels, 1, stride), self.norm(channels))


class Block(nn.Module):
    """relu(residual(x) + downsample(x))."""

    expansion: int
    last_norm: str
    downsample: nn.Sequential

    def residual(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        shortcut: Tensor = self.downsample(x)
        return F.relu(self.residual(x) + shortcut, inplace=True)


class BasicBlock(Block):
    """Two 3x3 convolutions."""

    expansion = 1
    last_norm = "bn2"

    def __init__(self, style: Style, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = style.conv(in_channels, channels, 3, stride)
        self.bn1 = style.norm(channels)
        self.conv2 = style.conv(channels, channels, 3)
        self.bn2 = style.norm(channels)
        self.downsample = style.shortcut(in_channels, channels * self.expansion, stride)

    def residual(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y: Tensor = self.bn2(self.conv2(x))
        return y


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions; the stride is on the 3x3 one (ResNet v1.5), which ResNeXt splits in groups."""

    expansion = 4
    last_norm = "bn3"

    def __init__(self, style: Style, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        width = int(channels * style.width_per_group / 64) * style.groups
        self.conv1 = style.conv(in_channels, width, 1)
        self.bn1 = style.norm(width)
        self.conv2 = style.conv(width, width, 3, stride, style.groups)
        self.bn2 = style.norm(width)
        self.conv3 = style.conv(width, channels * self.expansion, 1)
        self.bn3 = style.norm(channels * self.expansion)
        self.downsample = style.shortcut(in_channels, channels * self.expansion, stride)

    def residual(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        y: Tensor = self.bn3(self.conv3(x))
        return y


def norm_maker(norm: Norm, groups: int) -> Callable[[int], nn.Module]:
    """Channels to a normalization layer of this kind (eps 1e-5)."""
    if norm is Norm.BATCH:
        return nn.BatchNorm2d
    return partial(nn.GroupNorm, 1 if norm is Norm.LAYER else groups)


def four_stage_dims(first: int, last: int) -> Mapping[str, int]:
    """The widths of a residual network's features, of which its stem has `first` and its first stage `last`."""
    stages = {f"res{stage + 2}": last * 2**stage for stage in range(4)}
    return {"conv1": first, "res1": first, **stages, "res5avg": last * 8, "flatten": last * 8}


def four_stages(stem: Stage, pool: nn.Module, layers: Iterable[nn.Sequential]) -> Iterator[Stage]:
    """The way through a residual network, with its features by their names."""
    yield stem
    yield Stage("res1", pool)
    for number, layer in enumerate(layers, start=2):
        for i, block in enumerate(layer, start=1):
            yield Stage(f"res{number}" if i == len(layer) else None, block)
    yield Stage("res5avg", lambda x: F.adaptive_avg_pool2d(x, 1))
    yield Stage("flatten", lambda x: x.flatten(1))


class ResNet(StagedTrunk):
    """Residual network: images (B C H W) to the features of eight points of the network.

    With w = int(64 width_multiplier), e = 1 for depths 18 and 34 and e = 4 else, and the ImageNet stem:

        conv1 (after relu)   w   H/2      res1 (after pooling)   w  H/4      res2   w e  H/4     res3  2w e  H/8
        res4                4w e H/16     res5                  8w e H/32    res5avg (B 8we 1 1) flatten (B 8we)

    The small stem keeps the resolution up to res2 (H, H, H, then H/2, H/4, H/8). Images are normalized floats.
    ResNet: He et al. 2016 (arXiv 1512.03385), the stride of a bottleneck on its 3x3 convolution. ResNeXt:
    Xie et al. 2017 (arXiv 1611.05431), 32x4d is `groups=32, width_per_group=4`. Small stem: SimCLR
    (Chen et al. 2020, arXiv 2002.05709), appendix B.9. 32 groups: Wu and He 2018 (arXiv 1803.08494), section 4.1.
    Convolutions start from He's normal distribution over fan_out. Raises ValueError for an unknown feature name
    or depth, groups in a network of basic blocks, channels that the group norm cannot divide, an option without effect.

    Args:
        depth: number of layers with weights: 18, 34, 50, 101, 152 or 200.
        width_multiplier: factor of all widths; the first has int(64 x this) channels.
        norm: what normalizes after each convolution.
        groupnorm_groups: number of groups when norm is GROUP.
        groups: groups of the 3x3 convolutions of bottlenecks (ResNeXt's cardinality).
        width_per_group: channels of each of those groups in the first stage, at width_multiplier 1.
        zero_init_residual: start with residual branches that give 0 (Goyal et al. 2017, section 5.1).
        standardize_convolutions: convolve with weights of mean 0 and std 1 (Qiao et al. 2019, arXiv 1903.10520).
        layer4_stride: stride of the last stage; 1 doubles the resolution of res5.
        stem: what comes before the four stages.
    """

    def __init__(
        self,
        *,
        depth: Literal[18, 34, 50, 101, 152, 200] = 50,
        width_multiplier: Annotated[float, Gt(0)] = 1.0,
        norm: Norm = Norm.BATCH,
        groupnorm_groups: Annotated[int, Gt(0)] = DEFAULT_GROUPNORM_GROUPS,
        groups: Annotated[int, Gt(0)] = 1,
        width_per_group: Annotated[int, Gt(0)] = 64,
        zero_init_residual: bool = False,
        standardize_convolutions: bool = False,
        layer4_stride: Literal[1, 2] = 2,
        stem: Stem = Stem.IMAGENET,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.depth, self.width_multiplier, self.norm = depth, width_multiplier, norm
        self.groupnorm_groups, self.groups, self.width_per_group = groupnorm_groups, groups, width_per_group
        self.zero_init_residual, self.standardize_convolutions = zero_init_residual, standardize_convolutions
        self.layer4_stride, self.stem = layer4_stride, stem
        refuse(ResNet._faults(self))
        self._width = int(64 * width_multiplier)
        self._block: type[Block] = BasicBlock if depth in BASIC_DEPTHS else Bottleneck
        conv = StandardizedConv2d if standardize_convolutions else Conv2d
        style = Style(conv, norm_maker(norm, groupnorm_groups), groups, width_per_group)
        size, stride = (7, 2) if stem is Stem.IMAGENET else (3, 1)
        self.conv1 = style.conv(self.input.seen_channels, self._width, size, stride)
        self.bn1 = style.norm(self._width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem is Stem.IMAGENET else nn.Identity()
        self.layer1 = self._stage(style, 0, 1)
        self.layer2 = self._stage(style, 1, 2)
        self.layer3 = self._stage(style, 2, 2)
        self.layer4 = self._stage(style, 3, layer4_stride)
        if zero_init_residual:
            self._zero_residuals()

    def _stage(self, style: Style, stage: int, stride: int) -> nn.Sequential:
        channels = self._width * 2**stage
        before = self._width if stage == 0 else channels // 2 * self._block.expansion
        blocks = [self._block(style, before, channels, stride)]
        for _ in range(NUM_BLOCKS[self.depth][stage] - 1):
            blocks.append(self._block(style, channels * self._block.expansion, channels, 1))
        return nn.Sequential(*blocks)

    def _zero_residuals(self) -> None:
        for block in self.modules():
            if isinstance(block, Block):
                nn.init.zeros_(block.get_parameter(f"{block.last_norm}.weight"))

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return four_stage_dims(self._width, self._width * self._block.expansion)

    def stages(self) -> Iterator[Stage]:
        stem = Stage("conv1", lambda x: F.relu(self.bn1(self.conv1(x)), inplace=True))
        return four_stages(stem, self.maxpool, (self.layer1, self.layer2, self.layer3, self.layer4))

    def _faults(self) -> Iterator[Problem]:
        if self.depth not in NUM_BLOCKS:
            yield Problem("depth", f"{self.depth} is none of {', '.join(map(str, NUM_BLOCKS))}")
        widths = [int(64 * self.width_multiplier) * 2**stage for stage in range(4)]
        if self.depth not in BASIC_DEPTHS:
            widths += [int(width * self.width_per_group / 64) * self.groups for width in widths]
        elif (self.groups, self.width_per_group) != (1, 64):
            yield Problem("groups", f"the basic blocks of depth {self.depth} take groups=1 and width_per_group=64 only")
        if min(widths) < 1:
            yield Problem("width_multiplier", f"{self.width_multiplier} leaves a convolution without channels")
        divisor = self.groupnorm_groups
        undivided = [width for width in widths if width % divisor]
        if self.norm is Norm.GROUP and undivided:
            yield Problem("groupnorm_groups", f"{divisor} does not divide the {undivided[0]} channels")
        if self.norm is not Norm.GROUP and divisor != DEFAULT_GROUPNORM_GROUPS:
            yield Problem("groupnorm_groups", f"{divisor} has no effect: norm is not GROUP")


ResNetConf = config_for(ResNet)

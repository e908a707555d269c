"""ResNet and ResNeXt with batch, layer or group normalization, and ResNet with selective kernels, of any width."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
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
SK_DEPTHS = (50, 101, 152, 200)
SK_EXPANSION = 4
LEAST_SQUEEZED = 32
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
        return F.relu(self.downsample(x) + self.residual(x), inplace=True)


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


class ResidualTrunk(StagedTrunk):
    """A stem, pooling, and four stages of blocks, each stage twice as wide as the one before."""

    conv1: nn.Module
    maxpool: nn.Module
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential
    _width: int
    _expansion: int

    def _make_stages(
        self, block: Callable[[int, int, int], nn.Module], counts: Sequence[int], strides: Sequence[int]
    ) -> None:
        """Stages of so many blocks; `block` makes one from input channels, inner channels and stride."""
        before = self._width
        for stage, (count, stride) in enumerate(zip(counts, strides, strict=True)):
            channels = self._width * 2**stage
            blocks = [block(before, channels, stride)]
            before = channels * self._expansion
            blocks += [block(before, channels, 1) for _ in range(count - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    def _stem(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y: Tensor = self.conv1(images)
        return y

    @property
    def feature_dims(self) -> Mapping[str, int]:
        first, last = self._width, self._width * self._expansion
        stages = {f"res{stage + 2}": last * 2**stage for stage in range(4)}
        return {"conv1": first, "res1": first, **stages, "res5avg": last * 8, "flatten": last * 8}

    def stages(self) -> Iterator[Stage]:
        yield Stage("conv1", self._stem)
        yield Stage("res1", self.maxpool)
        for number, layer in enumerate((self.layer1, self.layer2, self.layer3, self.layer4), start=2):
            for i, block in enumerate(layer, start=1):
                yield Stage(f"res{number}" if i == len(layer) else None, block)
        yield Stage("res5avg", lambda x: F.adaptive_avg_pool2d(x, 1))
        yield Stage("flatten", lambda x: x.flatten(1))


class ResNet(ResidualTrunk):
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
        block: type[Block] = BasicBlock if depth in BASIC_DEPTHS else Bottleneck
        self._width, self._expansion = int(64 * width_multiplier), block.expansion
        group_norm = partial(nn.GroupNorm, 1 if norm is Norm.LAYER else groupnorm_groups)
        conv = StandardizedConv2d if standardize_convolutions else Conv2d
        style = Style(conv, nn.BatchNorm2d if norm is Norm.BATCH else group_norm, groups, width_per_group)
        size, stride = (7, 2) if stem is Stem.IMAGENET else (3, 1)
        self.conv1 = style.conv(self.input.seen_channels, self._width, size, stride)
        self.bn1 = style.norm(self._width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem is Stem.IMAGENET else nn.Identity()
        self._make_stages(partial(block, style), NUM_BLOCKS[depth], (1, 2, 2, layer4_stride))
        for module in self.modules() if zero_init_residual else ():
            if isinstance(module, Block):
                nn.init.zeros_(module.get_parameter(f"{module.last_norm}.weight"))

    def _stem(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return F.relu(self.bn1(self.conv1(images)), inplace=True)

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


class SelectiveKernel(nn.Module):
    """Two convolutions of the same input, weighted against each other per image and channel.

        u_1, u_2 = relu(bn(conv3x3(x)))      s = mean over pixels of u_1 + u_2
        a_1, a_2 = softmax over the two of W_2 relu(bn(W_1 s))          y = a_1 u_1 + a_2 u_2

    Li et al. 2019 (arXiv 1903.06586), section 3.1, with two 3x3 kernels as in SimCLR v2 (arXiv 2006.10029). s is
    squeezed to max(sk_ratio x channels, 32).
    """

    def __init__(self, channels: int, stride: int, sk_ratio: float) -> None:
        super().__init__()
        squeezed = max(int(channels * sk_ratio), LEAST_SQUEEZED)
        self.conv = Conv2d(channels, 2 * channels, 3, stride)
        self.bn = nn.BatchNorm2d(2 * channels)
        self.squeeze = Conv2d(channels, squeezed, 1)
        self.squeeze_bn = nn.BatchNorm2d(squeezed)
        self.excite = Conv2d(squeezed, 2 * channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        first, second = F.relu(self.bn(self.conv(x)), inplace=True).chunk(2, dim=1)
        mean = (first + second).mean((2, 3), keepdim=True)
        logits = self.excite(F.relu(self.squeeze_bn(self.squeeze(mean)), inplace=True))
        share = torch.sigmoid(torch.sub(*logits.chunk(2, dim=1)))  # the softmax over two
        mixed: Tensor = share * first + (1 - share) * second
        return mixed


class SKBottleneck(nn.Module):
    """relu(shortcut(x) + bn(conv1x1(selective kernel(relu(bn(conv1x1(x)))))))."""

    def __init__(self, in_channels: int, channels: int, stride: int, sk_ratio: float) -> None:
        super().__init__()
        wide = channels * SK_EXPANSION
        self.conv1 = Conv2d(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.sk = SelectiveKernel(channels, stride, sk_ratio)
        self.conv3 = Conv2d(channels, wide, 1)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample = nn.Identity() if in_channels == wide else shortcut(in_channels, wide, stride)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = self.bn3(self.conv3(self.sk(F.relu(self.bn1(self.conv1(x)), inplace=True))))
        return F.relu(self.downsample(x) + y, inplace=True)


def shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Pool, project, normalize: zeros on the right and below, so that 2x2 pooling also fits stride 1 and odd sizes.

    Averaging before projecting: He et al. 2019 (arXiv 1812.01187), section 4.2, ResNet-D.
    """
    pool = [nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, stride)]
    return nn.Sequential(*pool, Conv2d(in_channels, channels, 1), nn.BatchNorm2d(channels))


class ResNetSK(ResidualTrunk):
    """Residual network of selective kernels with a stem of three 3x3 convolutions (SimCLR v2, Chen et al. 2020).

    With w = int(64 width_multiplier), an even number:

        conv1 (after relu)  w H/2     res1 (after pooling)  w H/4     res2 4w H/4     res3 8w H/8
        res4 16w H/16                 res5 32w H/32         res5avg (B 32w 1 1)       flatten (B 32w)

    arXiv 2006.10029, section 3 and the code behind it; 152 layers three times as wide is its largest. Convolutions
    start from He's normal distribution over fan_out. Raises ValueError for an unknown depth or an odd w.

    Args:
        depth: number of layers with weights: 50, 101, 152 or 200.
        width_multiplier: factor of all widths; the first has int(64 x this) channels.
        sk_ratio: channels that a selective kernel squeezes to, over its channels; at least 32 of them.
    """

    def __init__(
        self,
        *,
        depth: Literal[50, 101, 152, 200] = 152,
        width_multiplier: Annotated[float, Gt(0)] = 3.0,
        sk_ratio: Annotated[float, Gt(0)] = 0.0625,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.depth, self.width_multiplier, self.sk_ratio = depth, width_multiplier, sk_ratio
        refuse(ResNetSK._faults(self))
        self._width, self._expansion = int(64 * width_multiplier), SK_EXPANSION
        width, half = self._width, self._width // 2
        stem = [*_convolved(self.input.seen_channels, half, 2), *_convolved(half, half, 1), *_convolved(half, width, 1)]
        self.conv1 = nn.Sequential(*stem)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self._make_stages(partial(SKBottleneck, sk_ratio=sk_ratio), NUM_BLOCKS[depth], (1, 2, 2, 2))

    def _faults(self) -> Iterator[Problem]:
        if self.depth not in SK_DEPTHS:
            yield Problem("depth", f"{self.depth} is none of {', '.join(map(str, SK_DEPTHS))}")
        width = int(64 * self.width_multiplier)
        if width < 2 or width % 2:
            yield Problem(
                "width_multiplier", f"{self.width_multiplier} makes a stem of {width} channels; it needs an even number"
            )


def _convolved(in_channels: int, channels: int, stride: int) -> list[nn.Module]:
    return [Conv2d(in_channels, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


ResNetConf = config_for(ResNet)
ResNetSKConf = config_for(ResNetSK)

"""RegNet X and Y: by name, by the five numbers of its design, or stage by stage."""

import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Annotated, NamedTuple, Self

import torch
from annotated_types import Ge, Gt, MinLen
from torch import nn
from torch.nn import functional as F
from torchvision.models.regnet import AnyStage, BlockParams, ResBottleneckBlock, SimpleStemIN

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk
from ssltyped.types import Facts, Problem

Positive = Annotated[int, Gt(0)]
Positives = Annotated[list[Positive], MinLen(1)]

DEFAULT_SE_RATIO = 0.25


class Design(NamedTuple):
    """A RegNet's numbers (see `RegNet`)."""

    depth: int
    w_0: int
    w_a: float
    w_m: float
    group_width: int


class RegNetName(Enum):
    """RegNets by the compute of one 224 x 224 image (multiplications and additions): X without, Y with squeezing."""

    X_400MF = "regnet_x_400mf"
    X_800MF = "regnet_x_800mf"
    X_1_6GF = "regnet_x_1.6gf"
    X_3_2GF = "regnet_x_3.2gf"
    X_8GF = "regnet_x_8gf"
    X_16GF = "regnet_x_16gf"
    X_32GF = "regnet_x_32gf"
    Y_400MF = "regnet_y_400mf"
    Y_800MF = "regnet_y_800mf"
    Y_1_6GF = "regnet_y_1.6gf"
    Y_3_2GF = "regnet_y_3.2gf"
    Y_8GF = "regnet_y_8gf"
    Y_16GF = "regnet_y_16gf"
    Y_32GF = "regnet_y_32gf"
    Y_64GF = "regnet_y_64gf"
    Y_128GF = "regnet_y_128gf"
    Y_256GF = "regnet_y_256gf"
    SEER_10B = "regnet_10b"


DESIGNS: Mapping[RegNetName, Design] = {
    RegNetName.X_400MF: Design(22, 24, 24.48, 2.54, 16),
    RegNetName.X_800MF: Design(16, 56, 35.73, 2.28, 16),
    RegNetName.X_1_6GF: Design(18, 80, 34.01, 2.25, 24),
    RegNetName.X_3_2GF: Design(25, 88, 26.31, 2.25, 48),
    RegNetName.X_8GF: Design(23, 80, 49.56, 2.88, 120),
    RegNetName.X_16GF: Design(22, 216, 55.59, 2.1, 128),
    RegNetName.X_32GF: Design(23, 320, 69.86, 2.0, 168),
    RegNetName.Y_400MF: Design(16, 48, 27.89, 2.09, 8),
    RegNetName.Y_800MF: Design(14, 56, 38.84, 2.4, 16),
    RegNetName.Y_1_6GF: Design(27, 48, 20.71, 2.65, 24),
    RegNetName.Y_3_2GF: Design(21, 80, 42.63, 2.66, 24),
    RegNetName.Y_8GF: Design(17, 192, 76.82, 2.19, 56),
    RegNetName.Y_16GF: Design(18, 200, 106.23, 2.48, 112),
    RegNetName.Y_32GF: Design(20, 232, 115.89, 2.53, 232),
    RegNetName.Y_64GF: Design(20, 352, 147.48, 2.4, 328),
    RegNetName.Y_128GF: Design(27, 456, 160.83, 2.52, 264),
    RegNetName.Y_256GF: Design(27, 640, 230.83, 2.53, 373),
    RegNetName.SEER_10B: Design(27, 1744, 620.83, 2.52, 1010),
}
"""Radosavovic et al. 2020, tables 5 and 6; 64, 128 and 256 GF: SEER (Goyal et al. 2021, arXiv 2103.01988); 10B: Goyal
et al. 2022 (arXiv 2202.08360)."""


def stages_of(design: Design, bottleneck_multiplier: float = 1.0) -> BlockParams:
    """The stages of a RegNet. Computed on the CPU also where trunks are built on another device."""
    with torch.device("cpu"):
        return BlockParams.from_init_params(*design, bottleneck_multiplier)


class RegNetStem(Enum):
    """What comes before the stages, with batch norm and the activation after its convolution.

    `SIMPLE`: 3x3 of stride 2. `SMALL`: 3x3 of stride 1, for small images. `RES`: 7x7 of stride 2, and max pooling.
    """

    SIMPLE = "simple_stem_in"
    SMALL = "res_stem_cifar"
    RES = "res_stem_in"


class Activation(Enum):
    """The non-linearity of all blocks but for the sigmoid of squeeze and excitation."""

    RELU = "relu"
    SILU = "silu"


class AnyNet(StagedTrunk):
    """Stages of residual bottlenecks with grouped convolutions (Radosavovic et al. 2020, arXiv 2003.13678).

        conv1  stem_width    H/2        res2, res3, ...: stage i  widths[i]  the one before / strides[i]
        avgpool (B widths[-1] 1 1)      flatten (B widths[-1])

    A block is act(shortcut(x) + c(se(b(a(x))))): a 1x1 to width x multiplier channels, b 3x3 in groups, se squeeze and
    excitation (Hu et al. 2018, section 3), c 1x1; the shortcut is a 1x1 convolution where the shapes differ. The blocks
    are torchvision's. Convolutions start from N(0, 2 / (size^2 x out channels)). Raises ValueError for lists of
    unequal lengths, and for groups that do not divide the channels.

    Args:
        depths: number of blocks of each stage.
        widths: channels of each stage.
        group_widths: channels of a group of the 3x3 convolutions of each stage.
        bottleneck_multipliers: channels within a block over those around it, for each stage.
        strides: stride of the first block of each stage.
        stem_type: what comes before the stages.
        stem_width: channels of the stem.
        activation: the non-linearity.
        se_ratio: channels that are squeezed to, over the input channels of the block; 0: no squeezing (RegNet X).
        bn_epsilon: added to the variance by batch norms.
        bn_momentum: weight of a batch in the running statistics.
    """

    def __init__(
        self,
        *,
        depths: Positives,
        widths: Positives,
        group_widths: Positives,
        bottleneck_multipliers: Annotated[list[Annotated[float, Gt(0)]], MinLen(1)],
        strides: Positives,
        stem_type: RegNetStem = RegNetStem.SIMPLE,
        stem_width: Positive = 32,
        activation: Activation = Activation.RELU,
        se_ratio: Annotated[float, Ge(0)] = DEFAULT_SE_RATIO,
        bn_epsilon: Annotated[float, Gt(0)] = 1e-5,
        bn_momentum: Annotated[float, Gt(0)] = 0.1,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.depths, self.widths, self.group_widths = depths, widths, group_widths
        self.bottleneck_multipliers, self.strides = bottleneck_multipliers, strides
        self.stem_type, self.stem_width, self.activation = stem_type, stem_width, activation
        self.se_ratio, self.bn_epsilon, self.bn_momentum = se_ratio, bn_epsilon, bn_momentum
        refuse(AnyNet._faults(self))
        norm = partial(nn.BatchNorm2d, eps=bn_epsilon, momentum=bn_momentum)
        act = nn.ReLU if activation is Activation.RELU else nn.SiLU
        self.conv1 = _stem(stem_type, self.input.seen_channels, stem_width, norm, act)
        before = [stem_width, *widths]
        self.res = nn.ModuleDict()
        for i, width in enumerate(widths):
            shape = (before[i], width, strides[i], depths[i])
            inner = (group_widths[i], bottleneck_multipliers[i], se_ratio or None, i + 1)
            self.res[f"res{i + 2}"] = AnyStage(*shape, ResBottleneckBlock, norm, act, *inner)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d) and not conv.weight.is_meta:
                fan_out = conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels
                nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))

    @property
    def feature_dims(self) -> Mapping[str, int]:
        stages = {f"res{i + 2}": width for i, width in enumerate(self.widths)}
        return {"conv1": self.stem_width, **stages, "avgpool": self.widths[-1], "flatten": self.widths[-1]}

    def stages(self) -> Iterator[Stage]:
        yield Stage("conv1", self.conv1)
        for name, stage in self.res.items():
            blocks = list(stage.children())
            yield from (Stage(None, block) for block in blocks[:-1])
            yield Stage(name, blocks[-1])
        yield Stage("avgpool", lambda x: F.adaptive_avg_pool2d(x, 1))
        yield Stage("flatten", lambda x: x.flatten(1))

    def _faults(self) -> Iterator[Problem]:
        for name in ("widths", "group_widths", "bottleneck_multipliers", "strides"):
            if len(getattr(self, name)) != len(self.depths):
                yield Problem(name, f"has {len(getattr(self, name))} stages; depths has {len(self.depths)}")
                return
        for width, factor, group in zip(self.widths, self.bottleneck_multipliers, self.group_widths, strict=True):
            if round(width * factor) % group:
                yield Problem("group_widths", f"groups of {group} do not divide {round(width * factor)} channels")


class RegNet(AnyNet):
    """A RegNet from five numbers (Radosavovic et al. 2020, arXiv 2003.13678, section 3.3).

    Block j = 0 .. depth - 1 has the width u_j = w_0 + w_a j, replaced by the nearest w_0 w_m^k (in log space), in
    multiples of 8; blocks of one width are a stage, whose width is then rounded to a multiple of its group width.
    Every stage halves the resolution. Features, blocks and their options are those of `AnyNet`. Raises ValueError for
    w_0 that is no multiple of 8.

    Args:
        depth: number of blocks.
        w_0: width of the first block.
        w_a: how much wider each next block would be.
        w_m: ratio of the widths of successive stages.
        group_width: channels of a group of the 3x3 convolutions; at most the width of the stage.
        bottleneck_multiplier: channels within a block over those around it.
    """

    def __init__(
        self,
        *,
        depth: Positive,
        w_0: Annotated[int, Ge(8)],
        w_a: Annotated[float, Ge(0)],
        w_m: Annotated[float, Gt(1)],
        group_width: Positive,
        bottleneck_multiplier: Annotated[float, Gt(0)] = 1.0,
        stem_type: RegNetStem = RegNetStem.SIMPLE,
        stem_width: Positive = 32,
        activation: Activation = Activation.RELU,
        se_ratio: Annotated[float, Ge(0)] = DEFAULT_SE_RATIO,
        bn_epsilon: Annotated[float, Gt(0)] = 1e-5,
        bn_momentum: Annotated[float, Gt(0)] = 0.1,
        input: Input = InputConf(),
    ) -> None:
        refuse(_design_problems(w_0))
        stages = stages_of(Design(depth, w_0, w_a, w_m, group_width), bottleneck_multiplier)
        super().__init__(
            depths=stages.depths,
            widths=stages.widths,
            group_widths=stages.group_widths,
            bottleneck_multipliers=stages.bottleneck_multipliers,
            strides=stages.strides,
            stem_type=stem_type,
            stem_width=stem_width,
            activation=activation,
            se_ratio=se_ratio,
            bn_epsilon=bn_epsilon,
            bn_momentum=bn_momentum,
            input=input,
        )
        self.depth, self.w_0, self.w_a, self.w_m = depth, w_0, w_a, w_m
        self.group_width, self.bottleneck_multiplier = group_width, bottleneck_multiplier

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return _design_problems(config.w_0)


class NamedRegNet(RegNet):
    """A published RegNet: `DESIGNS` has the numbers and their source; features are those of `AnyNet`.

    Args:
        name: which one.
    """

    def __init__(self, *, name: RegNetName, input: Input = InputConf()) -> None:
        design = DESIGNS[name]
        super().__init__(
            depth=design.depth,
            w_0=design.w_0,
            w_a=design.w_a,
            w_m=design.w_m,
            group_width=design.group_width,
            se_ratio=0.0 if "_x_" in name.value else DEFAULT_SE_RATIO,
            input=input,
        )
        self.name = name

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return []  # the designs are right


def _design_problems(w_0: int) -> Iterator[Problem]:
    if w_0 % 8:
        yield Problem("w_0", f"{w_0} is no multiple of 8, which all widths are")


def _stem(
    kind: RegNetStem, channels: int, width: int, norm: partial[nn.BatchNorm2d], act: type[nn.ReLU] | type[nn.SiLU]
) -> nn.Sequential:
    if kind is RegNetStem.SIMPLE:
        return SimpleStemIN(channels, width, norm, act)
    size, stride = (3, 1) if kind is RegNetStem.SMALL else (7, 2)
    conv = nn.Conv2d(channels, width, size, stride, padding=size // 2, bias=False)
    pool = [nn.MaxPool2d(3, 2, padding=1)] if kind is RegNetStem.RES else []
    return nn.Sequential(conv, norm(width), act(inplace=True), *pool)


AnyNetConf = config_for(AnyNet)
RegNetConf = config_for(RegNet)
NamedRegNetConf = config_for(NamedRegNet)

"""EfficientNet B0 to B7, of torchvision's blocks."""

import math
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Annotated, NamedTuple, Optional

from annotated_types import Ge, Gt, Lt
from torch import nn
from torch.nn import functional as F
from torchvision.models.efficientnet import MBConv, MBConvConfig
from torchvision.ops.misc import Conv2dNormActivation, SqueezeExcitation

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk
from ssltyped.types import Problem

STEM_WIDTH, FINAL_WIDTH = 32, 1280


class EfficientNetVersion(Enum):
    """B0 and its seven larger versions."""

    B0 = "B0"
    B1 = "B1"
    B2 = "B2"
    B3 = "B3"
    B4 = "B4"
    B5 = "B5"
    B6 = "B6"
    B7 = "B7"


class Scale(NamedTuple):
    """Factors of all widths and depths against B0, and the dropout of the last feature."""

    width: float
    depth: float
    dropout: float


SCALES: Mapping[EfficientNetVersion, Scale] = {
    EfficientNetVersion.B0: Scale(1.0, 1.0, 0.2),
    EfficientNetVersion.B1: Scale(1.0, 1.1, 0.2),
    EfficientNetVersion.B2: Scale(1.1, 1.2, 0.3),
    EfficientNetVersion.B3: Scale(1.2, 1.4, 0.3),
    EfficientNetVersion.B4: Scale(1.4, 1.8, 0.4),
    EfficientNetVersion.B5: Scale(1.6, 2.2, 0.4),
    EfficientNetVersion.B6: Scale(1.8, 2.6, 0.5),
    EfficientNetVersion.B7: Scale(2.0, 3.1, 0.5),
}
"""Tan and Le 2019 (arXiv 1905.11946), section 4, in the roundings of its authors' code."""


B0_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, size of kernel, stride of the first block, width and number of blocks: the rows of the paper's table 1."""


class EfficientNet(StagedTrunk):
    """Inverted residual blocks with squeeze and excitation, scaled in width and depth together (Tan and Le 2019).

        conv1 (H/2)   block0 ... blockN (H/2 to H/32)   conv_final   avgpool (B D 1 1)   flatten (B D)   dropout (B D)

    arXiv 1905.11946: table 1 is B0 (16 blocks, D = 1280); a version multiplies its widths, rounded to
    width_divisor, and its repeats, rounded up. In training, block i of n is left out of the residual sum of an image
    with probability drop_connect_rate i / n (stochastic depth, Huang et al. 2016), and `dropout` is `flatten` with
    values dropped; in evaluation they are equal. Convolutions start from N(0, 2 / fan_out), biases at 0. Raises
    ValueError for a width_divisor or min_width that is no multiple of 8.

    Args:
        version: B0 to B7.
        drop_connect_rate: probability that the last block is left out; 0.2 as the authors' code.
        use_se: whether blocks squeeze and excite their channels.
        width_divisor: widths are multiples of this.
        min_width: least width; None: width_divisor.
        bn_epsilon: added to the variance by batch norms; 1e-3 as the authors' code.
        bn_momentum: weight of a batch in the running statistics; 0.01 as the authors' code.
    """

    def __init__(
        self,
        *,
        version: EfficientNetVersion = EfficientNetVersion.B0,
        drop_connect_rate: Annotated[float, Ge(0), Lt(1)] = 0.2,
        use_se: bool = True,
        width_divisor: Annotated[int, Gt(0)] = 8,
        min_width: Optional[Annotated[int, Gt(0)]] = None,
        bn_epsilon: Annotated[float, Gt(0)] = 1e-3,
        bn_momentum: Annotated[float, Gt(0)] = 0.01,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.version, self.width_divisor, self.min_width = version, width_divisor, min_width
        self.drop_connect_rate, self.use_se = drop_connect_rate, use_se
        self.bn_epsilon, self.bn_momentum = bn_epsilon, bn_momentum
        refuse(EfficientNet._faults(self))
        scale = SCALES[version]
        norm = partial(nn.BatchNorm2d, eps=bn_epsilon, momentum=bn_momentum)
        layer = partial(Conv2dNormActivation, norm_layer=norm, activation_layer=nn.SiLU)
        rows = list(self._rows(scale))
        self.widths = [row.out_channels for row in rows]
        self.conv1 = layer(self.input.seen_channels, rows[0].input_channels, kernel_size=3, stride=2)
        make = partial(MBConv, norm_layer=norm, se_layer=SqueezeExcitation if use_se else nn.Identity)
        self.blocks = nn.ModuleList(make(row, drop_connect_rate * i / len(rows)) for i, row in enumerate(rows))
        self.final_width = self._scaled(FINAL_WIDTH, scale)
        self.conv_final = layer(self.widths[-1], self.final_width, kernel_size=1)
        self.dropout = nn.Dropout(scale.dropout)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d) and not conv.weight.is_meta:
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def _scaled(self, width: int, scale: Scale) -> int:
        """The nearest multiple of the divisor, but not more than a tenth below."""
        exact, divisor = width * scale.width, self.width_divisor
        rounded = max(self.min_width or divisor, int(exact + divisor / 2) // divisor * divisor)
        return rounded + divisor if rounded < 0.9 * exact else rounded

    def _rows(self, scale: Scale) -> Iterator[MBConvConfig]:
        """What each block is made of."""
        before = self._scaled(STEM_WIDTH, scale)
        for expansion, kernel, stride, b0_width, repeats in B0_STAGES:
            width = self._scaled(b0_width, scale)
            for i in range(math.ceil(repeats * scale.depth)):
                yield MBConvConfig(expansion, kernel, 1 if i else stride, before, width, 1)
                before = width

    @property
    def feature_dims(self) -> Mapping[str, int]:
        blocks = {f"block{i}": width for i, width in enumerate(self.widths)}
        pooled = dict.fromkeys(("conv_final", "avgpool", "flatten", "dropout"), self.final_width)
        return {"conv1": self._scaled(STEM_WIDTH, SCALES[self.version]), **blocks, **pooled}

    def stages(self) -> Iterator[Stage]:
        yield Stage("conv1", self.conv1)
        for i, block in enumerate(self.blocks):
            yield Stage(f"block{i}", block)
        yield Stage("conv_final", self.conv_final)
        yield Stage("avgpool", lambda x: F.adaptive_avg_pool2d(x, 1))
        yield Stage("flatten", lambda x: x.flatten(1))
        yield Stage("dropout", self.dropout)

    def _faults(self) -> Iterator[Problem]:
        for name, value in (("width_divisor", self.width_divisor), ("min_width", self.min_width)):
            if value is not None and value % 8:
                yield Problem(name, f"{value} is no multiple of 8, in which the blocks count their channels")


EfficientNetConf = config_for(EfficientNet)

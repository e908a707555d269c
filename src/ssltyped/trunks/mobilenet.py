"""MobileNet V3, torchvision's."""

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Annotated

from annotated_types import Gt
from torch import nn
from torch.nn import functional as F
from torchvision.models.mobilenetv3 import mobilenet_v3_large, mobilenet_v3_small

from ssltyped.config import config_for
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk
from ssltyped.trunks.hooked import see_channels


class MobileNetSize(Enum):
    """The two networks of the paper's tables 1 and 2."""

    LARGE = "large"
    SMALL = "small"


class MobileNetV3(StagedTrunk):
    """Inverted residual blocks found by search, with hard swish (Howard et al. 2019, arXiv 1905.02244).

        trunk (B D H/32 W/32)      trunk_pool: its mean over pixels (B D)      trunk_pool_norm: that over its length

    The default is trunk_pool. D = 960 for LARGE and 576 for SMALL at width 1. Layers, names of layers
    and starting weights are torchvision's.

    Args:
        size: LARGE (table 1 of the paper) or SMALL (table 2).
        width_multiplier: factor of all widths, which are then rounded to multiples of 8.
        bn_epsilon: added to the variance by batch norms; 1e-3 as the paper's code (timm's weights: 1e-5).
        bn_momentum: weight of a batch in the running statistics; 0.01 as the paper's code (timm's weights: 0.1).
    """

    def __init__(
        self,
        *,
        size: MobileNetSize = MobileNetSize.LARGE,
        width_multiplier: Annotated[float, Gt(0)] = 1.0,
        bn_epsilon: Annotated[float, Gt(0)] = 1e-3,
        bn_momentum: Annotated[float, Gt(0)] = 0.01,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.size, self.width_multiplier = size, width_multiplier
        self.bn_epsilon, self.bn_momentum = bn_epsilon, bn_momentum
        make = mobilenet_v3_large if size is MobileNetSize.LARGE else mobilenet_v3_small
        norm = partial(nn.BatchNorm2d, eps=bn_epsilon, momentum=bn_momentum)
        self.features: nn.Sequential = make(weights=None, width_mult=width_multiplier, norm_layer=norm).features
        see_channels(self.features, self.input.seen_channels)
        self.out_channels: int = self.features[-1].out_channels

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return dict.fromkeys(("trunk", "trunk_pool_norm", "trunk_pool"), self.out_channels)

    def stages(self) -> Iterator[Stage]:
        *inner, last = self.features
        yield from (Stage(None, block) for block in inner)
        yield Stage("trunk", last)
        yield Stage("trunk_pool", lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1))
        yield Stage("trunk_pool_norm", lambda x: F.normalize(x, dim=1))


MobileNetV3Conf = config_for(MobileNetV3)

"""ResNet with selective kernels, as SimCLR v2 has it."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk
from ssltyped.trunks.resnet import NUM_BLOCKS, Conv2d, four_stage_dims, four_stages
from ssltyped.types import Problem

DEPTHS = (50, 101, 152, 200)
EXPANSION = 4
LEAST_SQUEEZED = 32


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

    def __init__(self, in_channels: int, channels: int, stride: int, sk_ratio: float, project: bool) -> None:
        super().__init__()
        wide = channels * EXPANSION
        self.conv1 = Conv2d(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.sk = SelectiveKernel(channels, stride, sk_ratio)
        self.conv3 = Conv2d(channels, wide, 1)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample = shortcut(in_channels, wide, stride) if project else nn.Identity()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = self.bn3(self.conv3(self.sk(F.relu(self.bn1(self.conv1(x)), inplace=True))))
        return F.relu(self.downsample(x) + y, inplace=True)


def shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Pool, project, normalize: zeros on the right and below, so that 2x2 pooling also fits stride 1 and odd sizes.

    Averaging before projecting: He et al. 2019 (arXiv 1812.01187), section 4.2, ResNet-D.
    """
    pool = [nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, stride)]
    return nn.Sequential(*pool, Conv2d(in_channels, channels, 1), nn.BatchNorm2d(channels))


class ResNetSK(StagedTrunk):
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
        self._width = width = int(64 * width_multiplier)
        half = width // 2
        stem = [*_convolved(self.input.seen_channels, half, 2), *_convolved(half, half, 1), *_convolved(half, width, 1)]
        self.conv1 = nn.Sequential(*stem)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = self._stage(width, 0, sk_ratio)
        self.layer2 = self._stage(width * 4, 1, sk_ratio)
        self.layer3 = self._stage(width * 8, 2, sk_ratio)
        self.layer4 = self._stage(width * 16, 3, sk_ratio)

    def _stage(self, in_channels: int, stage: int, sk_ratio: float) -> nn.Sequential:
        channels = self._width * 2**stage
        blocks = [SKBottleneck(in_channels, channels, 1 if stage == 0 else 2, sk_ratio, project=True)]
        for _ in range(NUM_BLOCKS[self.depth][stage] - 1):
            blocks.append(SKBottleneck(channels * EXPANSION, channels, 1, sk_ratio, project=False))
        return nn.Sequential(*blocks)

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return four_stage_dims(self._width, self._width * EXPANSION)

    def stages(self) -> Iterator[Stage]:
        layers = (self.layer1, self.layer2, self.layer3, self.layer4)
        return four_stages(Stage("conv1", self.conv1), self.maxpool, layers)

    def _faults(self) -> Iterator[Problem]:
        if self.depth not in DEPTHS:
            yield Problem("depth", f"{self.depth} is none of {', '.join(map(str, DEPTHS))}")
        width = int(64 * self.width_multiplier)
        if width < 2 or width % 2:
            yield Problem(
                "width_multiplier", f"{self.width_multiplier} makes a stem of {width} channels; it needs an even number"
            )


def _convolved(in_channels: int, channels: int, stride: int) -> list[nn.Module]:
    return [Conv2d(in_channels, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


ResNetSKConf = config_for(ResNetSK)

"""AlexNet as five methods have drawn it: one table, one class."""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, NamedTuple

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputColor, InputConf, Stage, StagedTrunk
from ssltyped.types import Problem

NAMES = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")
POOL_SIZE, POOL_STRIDE = 3, 2


class AlexNetVariant(Enum):
    """Whose AlexNet it is.

    `BVLC`: Caffe's reference network (Krizhevsky et al. 2012, in one tower). `COLORIZATION`: Zhang et al. 2016
    (arXiv 1603.08511), sees only L of LAB. `DEEPCLUSTER`: Caron et al. 2018 (arXiv 1807.05520), sees the edges that a
    fixed Sobel filter finds in the grey image. `JIGSAW`: Noroozi and Favaro 2016 (arXiv 1603.09246), as Goyal et al.
    2019 (arXiv 1905.01235) scaled it. `ROTNET`: Gidaris et al. 2018 (arXiv 1803.07728).
    """

    BVLC = "bvlc"
    COLORIZATION = "colorization"
    DEEPCLUSTER = "deepcluster"
    JIGSAW = "jigsaw"
    ROTNET = "rotnet"


class ResponseNorm(Enum):
    """Where the first two poolings have a local response normalization (Krizhevsky et al. 2012, section 3.3)."""

    NONE = "none"
    BEFORE_POOL = "before_pool"
    AFTER_POOL = "after_pool"


class Conv(NamedTuple):
    """A convolution with bias; `batch_norm` between it and the relu."""

    channels: int
    size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    batch_norm: bool = True


class Drawing(NamedTuple):
    """What makes a variant."""

    convs: tuple[Conv, ...]
    response_norm: ResponseNorm = ResponseNorm.NONE
    sobel: bool = False


def _towers(stride: int, norms: tuple[bool, ...]) -> tuple[Conv, ...]:
    """The original widths; convolutions 2, 4 and 5 in the two groups that two GPUs once held."""
    return (
        Conv(96, 11, stride, batch_norm=norms[0]),
        Conv(256, 5, padding=2, groups=2, batch_norm=norms[1]),
        Conv(384, 3, padding=1, batch_norm=norms[2]),
        Conv(384, 3, padding=1, groups=2, batch_norm=norms[3]),
        Conv(256, 3, padding=1, groups=2, batch_norm=norms[4]),
    )


def _whole(first: int, second: int, fourth: int) -> tuple[Conv, ...]:
    """No groups, batch norm everywhere."""
    return (
        Conv(first, 11, stride=4, padding=2),
        Conv(second, 5, padding=2),
        Conv(384, 3, padding=1),
        Conv(fourth, 3, padding=1),
        Conv(256, 3, padding=1),
    )


DRAWINGS: Mapping[AlexNetVariant, Drawing] = {
    AlexNetVariant.BVLC: Drawing(_towers(4, (False,) * 5), ResponseNorm.BEFORE_POOL),
    AlexNetVariant.COLORIZATION: Drawing(_towers(4, (True,) * 5)),
    AlexNetVariant.DEEPCLUSTER: Drawing(_whole(96, 256, 384), sobel=True),
    AlexNetVariant.JIGSAW: Drawing(_towers(2, (False, False, True, True, True)), ResponseNorm.AFTER_POOL),
    AlexNetVariant.ROTNET: Drawing(_whole(64, 192, 256)),
}


class AlexNet(StagedTrunk):
    """Five convolutions with relu, max pooling after the first, second and fifth; no fully connected layers.

        conv1 pool1 conv2 pool2 conv3 conv4 conv5 pool5: (B C h w)        flatten: (B, C h w of pool5)

    `DRAWINGS` has the numbers of the variants. The width of `flatten` depends on the size of the images: it is stated
    for `image_size`, and images of which pool5 has another size are refused by it (the other features take any).
    Weights start as torch's do; the Sobel filter (Gx and Gy of the mean of the channels) is fixed and not trained.
    Raises ValueError for COLORIZATION without LAB input, and for images too small for the poolings.

    Args:
        variant: whose AlexNet.
        image_size: height and width of the images that `flatten` is made for, in pixels.
    """

    def __init__(
        self, *, variant: AlexNetVariant, image_size: Annotated[int, Gt(0)] = 224, input: Input = InputConf()
    ) -> None:
        super().__init__(input=input)
        self.variant, self.image_size = variant, image_size
        refuse(AlexNet._faults(self))
        drawing = DRAWINGS[variant]
        self.sobel = sobel(self.input.seen_channels) if drawing.sobel else nn.Identity()
        before = [2 if drawing.sobel else self.input.seen_channels, *(conv.channels for conv in drawing.convs)]
        for i, conv in enumerate(drawing.convs):
            self.add_module(f"conv{i + 1}", _convolution(before[i], conv))
        self.pool1, self.pool2 = _pool(drawing.response_norm), _pool(drawing.response_norm)
        self.pool5 = _pool(ResponseNorm.NONE)

    @property
    def feature_dims(self) -> Mapping[str, int]:
        convs = {f"conv{i + 1}": conv.channels for i, conv in enumerate(DRAWINGS[self.variant].convs)}
        dims = {name: convs[name.replace("pool", "conv")] for name in NAMES}
        return {**dims, "flatten": convs["conv5"] * last_size(self.variant, self.image_size) ** 2}

    def stages(self) -> Iterator[Stage]:
        yield Stage(None, self.sobel)
        for name in NAMES:
            yield Stage(name, self.get_submodule(name))
        yield Stage("flatten", self._flatten)

    def _flatten(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        side = last_size(self.variant, self.image_size)
        if tuple(x.shape[2:]) != (side, side):
            wanted = f"{self.image_size} x {self.image_size} images, for which pool5 is {side} x {side}"
            raise ValueError(
                f"flatten is made for {wanted}; got {x.shape[2]} x {x.shape[3]}: set image_size, or take pool5"
            )
        return x.flatten(1)

    def _faults(self) -> Iterator[Problem]:
        if self.variant is AlexNetVariant.COLORIZATION and self.input.color is not InputColor.LAB:
            yield Problem("input.color", "COLORIZATION sees the L of LAB images: set LAB")
        if last_size(self.variant, self.image_size) < 1:
            yield Problem("image_size", f"{self.image_size} pixels are too few for the poolings of {self.variant.name}")


def last_size(variant: AlexNetVariant, image_size: int) -> int:
    """Height and width of pool5 in pixels; 0 or less for images that are too small."""
    size = image_size
    for i, conv in enumerate(DRAWINGS[variant].convs):
        size = (size + 2 * conv.padding - conv.size) // conv.stride + 1
        if f"pool{i + 1}" in NAMES:
            size = (size - POOL_SIZE) // POOL_STRIDE + 1
    return size


def sobel(channels: int) -> nn.Sequential:
    """The mean of the channels, then its horizontal and vertical differences, smoothed across; not trained."""
    grey, edges = nn.Conv2d(channels, 1, 1), nn.Conv2d(1, 2, 3, padding=1)
    rows = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    with torch.no_grad():
        grey.weight.fill_(1 / channels)
        edges.weight.copy_(torch.stack([rows, rows.T]).unsqueeze(1))
        for conv in (grey, edges):
            nn.init.zeros_(conv.get_parameter("bias"))
    return nn.Sequential(grey, edges).requires_grad_(False)


def _convolution(in_channels: int, conv: Conv) -> nn.Sequential:
    layer = nn.Conv2d(in_channels, conv.channels, conv.size, conv.stride, conv.padding, groups=conv.groups)
    norm = [nn.BatchNorm2d(conv.channels)] if conv.batch_norm else []
    return nn.Sequential(layer, *norm, nn.ReLU(inplace=True))


def _pool(norm: ResponseNorm) -> nn.Sequential:
    """Max pooling; sizes of the normalization: Krizhevsky et al. 2012, alpha and beta as Caffe has them."""
    pool = nn.MaxPool2d(POOL_SIZE, POOL_STRIDE)
    if norm is ResponseNorm.NONE:
        return nn.Sequential(pool)
    response = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
    return nn.Sequential(*((response, pool) if norm is ResponseNorm.BEFORE_POOL else (pool, response)))


AlexNetConf = config_for(AlexNet)

"""ResNet with selective kernels: the kernel written out, the network's sizes, and the contract of all trunks.

The whole network against a recorded pass: tests/weights/test_vissl_trunks.py.
"""

from functools import partial

import pytest
import torch
from facts import FACTS
from torch import Tensor
from torch.nn import functional as F
from trunk_contract import check_checkpointing, check_colors, check_features

from ssltyped.trunks.input import Input
from ssltyped.trunks.resnet_sk import ResNetSK, ResNetSKConf, SelectiveKernel, shortcut

tiny = partial(ResNetSK, depth=50, width_multiplier=0.125)


def test_features() -> None:
    features = check_features(tiny(), 64)
    assert [x.shape[-1] for x in features.values()] == [32, 16, 16, 8, 4, 2, 1, 256]
    assert torch.equal(features["flatten"], features["res5avg"].flatten(1))
    torch.testing.assert_close(features["res5avg"], features["res5"].mean((2, 3), keepdim=True))


@pytest.mark.parametrize("stride", [1, 2])
def test_selective_kernel_in_plain_steps(stride: int) -> None:
    torch.manual_seed(0)
    kernel = SelectiveKernel(8, stride, 0.5)
    assert kernel.squeeze.out_channels == 32  # not fewer
    assert SelectiveKernel(128, stride, 0.5).squeeze.out_channels == 64
    x = torch.randn(4, 8, 6, 6)
    want = kernel(x)
    conv = F.conv2d(x, kernel.conv.weight, stride=stride, padding=1)
    both = F.relu(F.batch_norm(conv, None, None, training=True)).view(4, 2, 8, 6 // stride, 6 // stride)
    mean = both.sum(1).mean((2, 3), keepdim=True)
    squeezed = F.relu(F.batch_norm(F.conv2d(mean, kernel.squeeze.weight), None, None, training=True))
    share = F.conv2d(squeezed, kernel.excite.weight).view(4, 2, 8, 1, 1).softmax(1)
    torch.testing.assert_close((both * share).sum(1), want)


@pytest.mark.parametrize("stride, size", [(1, 5), (2, 5), (2, 6)])
def test_the_shortcut_averages_before_it_projects(stride: int, size: int) -> None:
    layers = shortcut(3, 4, stride).eval()
    x = torch.randn(2, 3, size, size)
    padded = F.pad(x, (0, 1, 0, 1))
    pooled: Tensor = padded.unfold(2, 2, stride).unfold(3, 2, stride).mean((4, 5))
    want = F.conv2d(pooled, layers.get_parameter("2.weight")) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(layers(x), want)
    assert want.shape[2] == -(-size // stride)


@pytest.mark.parametrize("depth, blocks", [(50, 16), (101, 33), (152, 50), (200, 66)])
def test_depths(depth: int, blocks: int) -> None:
    with torch.device("meta"):
        trunk = ResNetSK(depth=next(known for known in (50, 101, 152, 200) if known == depth), width_multiplier=1.0)
    assert sum(len(layer) for layer in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)) == blocks


def test_colours_and_channels() -> None:
    check_colors(lambda color, channels: tiny(input=Input(color=color, channels=channels)), 32)


def test_checkpointing() -> None:
    check_checkpointing(lambda splits: tiny(input=Input(checkpoint_splits=splits)), 64, ["flatten", "res3"])


def test_what_cannot_work() -> None:
    """`problems` is called with a config in the place of self."""
    problems = ResNetSK.problems(ResNetSKConf(width_multiplier=0.02), FACTS)
    assert [str(problem) for problem in problems] == [
        "width_multiplier: 0.02 makes a stem of 1 channels; it needs an even number"
    ]
    with pytest.raises(ValueError, match="stem of 1 channels"):
        ResNetSK(width_multiplier=0.02)

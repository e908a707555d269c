"""EfficientNets: torchvision's numbers of parameters for every version, scaling, stochastic depth, options.

B0 against a recorded pass: tests/weights/test_vissl_trunks.py.
"""

from functools import partial

import pytest
import torch
from facts import FACTS
from torch import nn
from torchvision import models
from torchvision.ops import StochasticDepth
from trunk_contract import check_checkpointing, check_colors, check_features, images

from ssltyped.trunks.base import Input
from ssltyped.trunks.efficientnet import EfficientNet, EfficientNetConf, EfficientNetVersion


@pytest.mark.parametrize("version", EfficientNetVersion)
def test_every_version_has_the_parameters_of_torchvision(version: EfficientNetVersion) -> None:
    """Shapes in their order, but for its classifier."""
    with torch.device("meta"):
        trunk = EfficientNet(version=version)
        reference = models.get_model(f"efficientnet_{version.value.lower()}", weights=None)
    ours = [tuple(value.shape) for value in trunk.state_dict().values()]
    theirs = [tuple(value.shape) for key, value in reference.state_dict().items() if "classifier" not in key]
    assert ours == theirs
    dropout = reference.get_submodule("classifier.0")
    assert isinstance(dropout, nn.Dropout)
    assert trunk.dropout.p == dropout.p
    drops = [[m.p for m in net.modules() if isinstance(m, StochasticDepth)] for net in (trunk, reference)]
    assert drops[0] == pytest.approx(drops[1])


def test_the_same_weights_give_what_torchvision_gives() -> None:
    trunk, reference = EfficientNet().eval(), models.efficientnet_b0(weights=None, norm_layer=norm()).eval()
    pairs = zip(trunk.state_dict(), reference.state_dict().items(), strict=False)
    trunk.load_state_dict({ours: value for ours, (_, value) in pairs})
    with torch.no_grad():
        want = reference.avgpool(reference.features(images(64))).flatten(1)
        torch.testing.assert_close(trunk(images(64), ["flatten"])[0], want)


def norm() -> partial[nn.BatchNorm2d]:
    return partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


def test_features() -> None:
    features = check_features(EfficientNet(), 64)
    assert list(features) == ["conv1", *(f"block{i}" for i in range(16)), "conv_final", "avgpool", "flatten", "dropout"]
    assert torch.equal(features["dropout"], features["flatten"])
    torch.testing.assert_close(features["flatten"], features["conv_final"].mean((2, 3)))


def test_dropout_drops_in_training_only() -> None:
    torch.manual_seed(0)
    flat, dropped = EfficientNet(drop_connect_rate=0.0).train()(images(64), ["flatten", "dropout"])
    kept = dropped != 0
    assert 0.7 < float(kept.float().mean()) < 0.9
    torch.testing.assert_close(dropped[kept], flat[kept] / 0.8)


def test_options_reach_the_layers() -> None:
    trunk = EfficientNet(use_se=False, drop_connect_rate=0.0, bn_epsilon=1e-5, bn_momentum=0.1)
    assert not [module for module in trunk.modules() if type(module).__name__ == "SqueezeExcitation"]
    norms = {(m.eps, m.momentum) for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == {(1e-5, 0.1)}
    assert {m.p for m in trunk.modules() if isinstance(m, StochasticDepth)} == {0.0}
    check_features(trunk, 32)


def test_widths_are_multiples_of_the_divisor_and_not_below_the_least() -> None:
    with torch.device("meta"):
        coarse = EfficientNet(width_divisor=32)
        least = EfficientNet(min_width=48)
    # 16 -> 32, 24 -> 32, 40 -> 32 would lose more than a tenth -> 64, 80 -> 96 (rounded up from 2.5), 112, 192, 320
    assert sorted(set(coarse.widths)) == [32, 64, 96, 128, 192, 320]
    assert sorted(set(least.widths)) == [48, 80, 112, 192, 320]


def test_colours_and_channels() -> None:
    check_colors(lambda color, channels: EfficientNet(input=Input(color=color, channels=channels)), 32)


def test_checkpointing_draws_the_same_random_numbers_again() -> None:
    check_checkpointing(lambda splits: EfficientNet(input=Input(checkpoint_splits=splits)), 32, ["dropout", "block7"])


def test_what_cannot_work() -> None:
    """`problems` is called with a config in the place of self."""
    problems = EfficientNet.problems(EfficientNetConf(width_divisor=4, min_width=20), FACTS)
    assert [problem.path for problem in problems] == ["width_divisor", "min_width"]
    with pytest.raises(ValueError, match="width_divisor: 4 is no multiple of 8"):
        EfficientNet(width_divisor=4)

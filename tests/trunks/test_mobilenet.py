"""MobileNet V3: torchvision's layers, three features, options."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.mobilenetv3 import mobilenet_v3_large, mobilenet_v3_small
from trunk_contract import check_checkpointing, check_colors, check_features, images

from ssltyped.trunks.base import Input
from ssltyped.trunks.mobilenet import MobileNetSize, MobileNetV3

tiny = partial(MobileNetV3, size=MobileNetSize.SMALL, width_multiplier=0.25)


REFERENCES = {MobileNetSize.LARGE: mobilenet_v3_large, MobileNetSize.SMALL: mobilenet_v3_small}


@pytest.mark.parametrize("size", MobileNetSize)
def test_the_same_weights_give_what_torchvision_gives(size: MobileNetSize) -> None:
    trunk, reference = (
        MobileNetV3(size=size).eval(),
        REFERENCES[size](weights=None).eval(),
    )
    trunk.features.load_state_dict(reference.features.state_dict())
    with torch.no_grad():
        want = reference.avgpool(reference.features(images(64))).flatten(1)
        torch.testing.assert_close(trunk(images(64), ["trunk_pool"])[0], want)
    assert trunk.feature_dims["trunk"] == {MobileNetSize.LARGE: 960, MobileNetSize.SMALL: 576}[size]


def test_features_and_the_pooled_one_as_the_default() -> None:
    features = check_features(tiny(), 64)
    assert list(features)[-1] == "trunk_pool"
    torch.testing.assert_close(features["trunk_pool"], features["trunk"].mean((2, 3)))
    torch.testing.assert_close(features["trunk_pool_norm"], F.normalize(features["trunk_pool"]))


def test_norm_options_reach_the_layers() -> None:
    trunk = tiny(bn_epsilon=1e-5, bn_momentum=0.1)
    norms = {(m.eps, m.momentum) for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == {(1e-5, 0.1)}


def test_colours_and_channels() -> None:
    check_colors(lambda color, channels: tiny(input=Input(color=color, channels=channels)), 32)


def test_checkpointing() -> None:
    check_checkpointing(lambda splits: tiny(input=Input(checkpoint_splits=splits)), 64, ["trunk_pool", "trunk"])

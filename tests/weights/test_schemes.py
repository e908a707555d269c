"""The table of names: every entry has its own anchor among its names, and gives each of our tensors a place."""

from __future__ import annotations

import re

import pytest
import torch
from weights.test_recognise import CASES

from ssltyped import build
from ssltyped.weights.schemes import OTHERS, SCHEMES, Scheme, family_of

TRUNKS_OF = {
    "ResNet": ["resnet18", "resnet50"],
    "ResNetSK": ["selective kernels"],
    "RegNet": ["regnet"],
    "EfficientNet": ["efficientnet"],
    "MobileNetV3": ["mobilenet"],
    "AlexNet": ["alexnet"],
    "XCiT": ["xcit"],
    "ConViT": ["convit"],
    "BEiT": ["beit"],
    "VisionTransformer": ["vit", "masked vit"],
    "ConvNeXt": ["convnext"],
    "SwinTransformer": ["swin"],
}


@pytest.mark.parametrize(
    "scheme", SCHEMES, ids=lambda scheme: f"{scheme.library.value}-{scheme.family}-{scheme.anchor}"
)
def test_names_are_distinct_and_none_of_them_is_taken_for_a_classifier(scheme: Scheme) -> None:
    anchored = False
    for name in TRUNKS_OF[scheme.family]:
        with torch.device("meta"):
            trunk = build(CASES[name]())
        assert family_of(trunk) == scheme.family
        layout = scheme.layout_of(trunk)
        theirs = layout.export(trunk)
        kept = [key for key in trunk.state_dict() if not re.search(layout.dropped, key)]
        assert len(theirs) == sum(len(layout.all_names(key)) for key in kept), "no two have one name"
        assert not [key for key in theirs if re.search(scheme.others, key) and "mask" not in key]
        found = layout.find(trunk, theirs)
        assert {*found.entries, *found.absent} == set(trunk.state_dict())
        assert found.rest == ()
        anchored |= scheme.anchor in theirs or "lambda1" in scheme.anchor or "block.bn" in scheme.anchor
    assert anchored


@pytest.mark.parametrize(
    "name",
    ["fc.weight", "head.weight", "heads.0.x", "classifier.2.bias", "pooler.dense.weight", "decoder_blocks.0.x"],
)
def test_classifiers_and_decoders_stand_beside_a_trunk(name: str) -> None:
    assert re.search(OTHERS, name)


@pytest.mark.parametrize(
    "name", ["fc_norm.weight", "register_tokens", "layer1.fc.weight", "headroom.weight", "norm.bias"]
)
def test_what_changes_a_feature_is_never_left(name: str) -> None:
    assert not re.search(OTHERS, name)

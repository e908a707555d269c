"""torchvision's and timm's networks by name: pooled and inner features, what is refused, and without timm."""

from typing import Optional

import pytest
import torch
from facts import FACTS
from torch import nn
from torchvision import models
from trunk_contract import check_checkpointing, check_colors, check_features, images

from ssltyped.trunks import libraries
from ssltyped.trunks.base import Input
from ssltyped.trunks.libraries import TimmTrunk, TimmTrunkConf, TorchvisionTrunk, TorchvisionTrunkConf

FAMILIES = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_v2_s": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v2": 1280,
    "regnet_x_400mf": 400,
    "resnet18": 512,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "vgg11": 4096,
    "vit_b_32": 768,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_the_classifier_got_is_the_default_feature(name: str) -> None:
    with torch.device("meta"):
        trunk = TorchvisionTrunk(name=name, input=Input(channels=4)).eval()
        names = list(trunk.feature_dims)
        features = trunk(torch.empty(2, 4, 224, 224), names)
    assert names[-1] == "flatten"
    assert features[-1].shape == (2, FAMILIES[name])
    assert all(trunk.feature_dims[key] in x.shape[1:] for key, x in zip(names, features, strict=True))
    assert len(names) > 5


def test_resnet18_is_torchvisions() -> None:
    trunk = TorchvisionTrunk(name="resnet18")
    reference = models.resnet18(weights=None)
    reference.fc = nn.Identity()
    reference.load_state_dict(trunk.model.state_dict())
    features = check_features(trunk, 64)
    with torch.no_grad():
        torch.testing.assert_close(features["flatten"], reference.eval()(images(64)))
    assert trunk.feature_dims["layer3"] == trunk.feature_dims["layer3.1"] == 256
    assert "layer3.1.conv1" not in trunk.feature_dims


def test_a_vision_transformer_is_built_for_the_size() -> None:
    with torch.device("meta"):
        trunk = TorchvisionTrunk(name="vit_b_32", image_size=64)
        (tokens,) = trunk(torch.empty(1, 3, 64, 64), ["encoder.layers.encoder_layer_5"])
    assert tokens.shape == (1, 5, 768)


def test_colours_and_channels() -> None:
    check_colors(
        lambda color, channels: TorchvisionTrunk(
            name="mobilenet_v3_small", image_size=32, input=Input(color=color, channels=channels)
        ),
        32,
    )


def test_checkpointing() -> None:
    check_checkpointing(
        lambda splits: TorchvisionTrunk(name="resnet18", input=Input(checkpoint_splits=splits)),
        32,
        ["flatten", "layer2"],
    )


def test_unknown_names_get_the_nearest_and_detectors_are_none() -> None:
    problems = list(TorchvisionTrunk.problems(TorchvisionTrunkConf(name="resnet81"), FACTS))
    assert [problem.path for problem in problems] == ["name"]
    assert "no classification network 'resnet81'; did you mean 'resnet18'?" in problems[0].message
    for name in ("resnet81", "fcn_resnet50"):
        with pytest.raises(ValueError, match="torchvision has no classification network"):
            TorchvisionTrunk(name=name)


@pytest.mark.parametrize(
    "name, width, inner",
    [
        ("resnet10t", 512, "layer3"),
        ("vit_tiny_patch16_224", 192, "blocks.5"),
        ("convnext_atto", 320, "stages.2"),
        ("swin_tiny_patch4_window7_224", 768, "layers.1"),
        ("mobilenetv3_small_050", 1024, "blocks.3"),
    ],
)
def test_pooled_and_inner_features(name: str, width: int, inner: str) -> None:
    with torch.device("meta"):
        trunk = TimmTrunk(name=name, input=Input(channels=4)).eval()
        flat, inside = trunk(torch.empty(2, 4, 224, 224), ["flatten", inner])
    assert list(trunk.feature_dims)[-1] == "flatten"
    assert flat.shape == (2, width) == (2, trunk.feature_dims["flatten"])
    assert trunk.feature_dims[inner] in inside.shape[1:]


def test_the_contract_of_all_trunks() -> None:
    check_features(TimmTrunk(name="resnet10t", image_size=32), 32)
    check_colors(
        lambda color, channels: TimmTrunk(name="resnet10t", image_size=32, input=Input(color=color, channels=channels)),
        32,
    )
    check_checkpointing(
        lambda splits: TimmTrunk(name="resnet10t", image_size=32, input=Input(checkpoint_splits=splits)),
        32,
        ["flatten", "layer2"],
    )


def test_networks_for_one_size_are_made_for_this_one() -> None:
    with torch.device("meta"):
        trunk = TimmTrunk(name="vit_tiny_patch16_224", image_size=64).eval()
        (tokens,) = trunk(torch.empty(1, 3, 64, 64), ["blocks.0"])
    assert tokens.shape == (1, 17, 192)


def test_unknown_names_get_the_nearest() -> None:
    problems = list(TimmTrunk.problems(TimmTrunkConf(name="resnet81"), FACTS))
    assert [problem.path for problem in problems] == ["name"]
    assert "timm has no network 'resnet81'; did you mean 'resnet18'?" in problems[0].message
    with pytest.raises(ValueError, match="timm has no network"):
        TimmTrunk(name="resnet81")


def test_without_timm_the_config_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> Optional[object]:
        return None

    monkeypatch.setattr(libraries, "find_spec", none)
    (problem,) = TimmTrunk.problems(TimmTrunkConf(name="resnet10t"), FACTS)
    assert str(problem) == "name: timm is not installed: pip install 'ssltyped[timm]'"
    with pytest.raises(ValueError, match="timm is not installed"):
        TimmTrunk(name="resnet10t")

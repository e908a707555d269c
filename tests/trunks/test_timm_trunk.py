"""timm's networks by name, and what is said where timm is not installed."""

from importlib import util
from typing import Optional

import pytest
import torch
from facts import FACTS
from trunk_contract import check_checkpointing, check_colors, check_features

from ssltyped.trunks import timm_trunk
from ssltyped.trunks.input import Input
from ssltyped.trunks.timm_trunk import TimmTrunk, TimmTrunkConf

needs_timm = pytest.mark.skipif(util.find_spec("timm") is None, reason="timm is an extra")


@needs_timm
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


@needs_timm
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


@needs_timm
def test_networks_for_one_size_are_made_for_this_one() -> None:
    with torch.device("meta"):
        trunk = TimmTrunk(name="vit_tiny_patch16_224", image_size=64).eval()
        (tokens,) = trunk(torch.empty(1, 3, 64, 64), ["blocks.0"])
    assert tokens.shape == (1, 17, 192)


@needs_timm
def test_unknown_names_get_the_nearest() -> None:
    problems = list(TimmTrunk.problems(TimmTrunkConf(name="resnet81"), FACTS))
    assert [problem.path for problem in problems] == ["name"]
    assert "timm has no network 'resnet81'; did you mean 'resnet18'?" in problems[0].message
    with pytest.raises(ValueError, match="timm has no network"):
        TimmTrunk(name="resnet81")


def test_without_timm_the_config_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> Optional[object]:
        return None

    monkeypatch.setattr(timm_trunk, "find_spec", none)
    (problem,) = TimmTrunk.problems(TimmTrunkConf(name="resnet10t"), FACTS)
    assert str(problem) == "name: timm is not installed: pip install 'ssltyped[timm]'"
    with pytest.raises(ValueError, match="timm is not installed"):
        TimmTrunk(name="resnet10t")

"""RegNets: stages, features, options, the largest ones on the meta device, and what cannot work.

Against recorded passes and listings: tests/weights/test_vissl_trunks.py.
"""

from collections.abc import Iterable
from functools import partial

import pytest
import torch
from facts import FACTS
from torch import nn
from torchvision.models import regnet as reference
from trunk_contract import check_checkpointing, check_colors, check_features

from ssltyped.trunks.base import Input
from ssltyped.trunks.regnet import (
    DESIGNS,
    Activation,
    AnyNet,
    AnyNetConf,
    Design,
    NamedRegNet,
    RegNet,
    RegNetConf,
    RegNetName,
    RegNetStem,
    stages_of,
)
from ssltyped.types import Problem

tiny = partial(RegNet, depth=5, w_0=8, w_a=6.0, w_m=2.0, group_width=8, stem_width=8)
any_tiny = partial(
    AnyNet, depths=[1, 2], widths=[8, 16], group_widths=[4, 8], bottleneck_multipliers=[1.0, 0.5], strides=[2, 1]
)


@pytest.mark.parametrize(
    "name, widths, parameters",
    [
        (RegNetName.Y_64GF, [328, 984, 1968, 4920], 276_457_786),
        (RegNetName.Y_256GF, [746, 1492, 4103, 10444], 1_272_156_138),
        (RegNetName.SEER_10B, [2020, 4040, 11110, 28280], 9_323_934_872),
    ],
)
def test_the_large_ones_on_the_meta_device(name: RegNetName, widths: list[int], parameters: int) -> None:
    """Widths as the papers state those of the features; nothing of it is in memory."""
    with torch.device("meta"):
        trunk = NamedRegNet(name=name)
        (flat,) = trunk.eval()(torch.empty(1, 3, 64, 64), ["flatten"])
    assert trunk.widths == widths
    assert sum(parameter.numel() for parameter in trunk.parameters()) == parameters
    assert flat.shape == (1, widths[-1])


def test_features() -> None:
    features = check_features(tiny(), 64)
    assert list(features) == ["conv1", "res2", "res3", "res4", "avgpool", "flatten"]
    assert [x.shape[-1] for x in features.values()][:4] == [32, 16, 8, 4]
    torch.testing.assert_close(features["flatten"], features["res4"].mean((2, 3)))
    stages = check_features(any_tiny(), 32)
    assert {name: (x.shape[1], x.shape[-1]) for name, x in stages.items() if x.ndim == 4} == {
        "conv1": (32, 16),
        "res2": (8, 8),
        "res3": (16, 8),
        "avgpool": (16, 1),
    }


def test_a_regnet_is_an_anynet_of_its_stages() -> None:
    """Block widths by hand: 8, 14, 20, 26, 32 -> nearest 8 x 2^k in log space 8, 16, 16, 32, 32."""
    trunk = tiny()
    assert (trunk.widths, trunk.depths) == ([8, 16, 32], [1, 2, 2])
    same = AnyNet(
        depths=[1, 2, 2],
        widths=[8, 16, 32],
        group_widths=[8, 8, 8],
        bottleneck_multipliers=[1.0] * 3,
        strides=[2] * 3,
        stem_width=8,
    )
    same.load_state_dict(trunk.state_dict())
    assert list(same.state_dict()) == list(trunk.state_dict())


@pytest.mark.parametrize("stem, sides", [(RegNetStem.SIMPLE, 32), (RegNetStem.SMALL, 64), (RegNetStem.RES, 16)])
def test_stems(stem: RegNetStem, sides: int) -> None:
    assert check_features(tiny(stem_type=stem), 64)["conv1"].shape[-1] == sides


def test_activation_and_norm_options_reach_the_layers() -> None:
    trunk = tiny(activation=Activation.SILU, bn_epsilon=1e-3, bn_momentum=0.2, se_ratio=0.0)
    kinds = {type(module) for module in trunk.modules()}
    assert "SqueezeExcitation" not in {kind.__name__ for kind in kinds}
    assert nn.SiLU in kinds
    assert not kinds & {nn.ReLU, nn.Sigmoid}
    norms = {(m.eps, m.momentum) for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == {(1e-3, 0.2)}


def test_convolutions_start_from_normal_over_size_and_out_channels_also_in_groups() -> None:
    torch.manual_seed(0)
    trunk = NamedRegNet(name=RegNetName.X_400MF)
    for conv in [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]:
        std = (2 / (conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(std, rel=0.12)
        assert conv.weight.abs().max() > 2.2 * std  # a uniform one would end at 1.7 std


def test_colours_and_channels() -> None:
    check_colors(lambda color, channels: tiny(input=Input(color=color, channels=channels)), 32)


def test_checkpointing() -> None:
    check_checkpointing(lambda splits: tiny(input=Input(checkpoint_splits=splits)), 64, ["flatten", "res2"])


pair_conf = partial(AnyNetConf, bottleneck_multipliers=[1.0, 1.0], strides=[2, 2])


@pytest.mark.parametrize(
    "problems, path, text",
    [
        (
            AnyNet.problems(pair_conf(depths=[1, 1], widths=[8], group_widths=[8, 8]), FACTS),
            "widths",
            "has 1 stages; depths has 2",
        ),
        (
            AnyNet.problems(pair_conf(depths=[1, 1], widths=[8, 20], group_widths=[8, 8]), FACTS),
            "group_widths",
            "groups of 8 do not divide 20 channels",
        ),
        (
            RegNet.problems(RegNetConf(depth=4, w_0=9, w_a=8.0, w_m=2.0, group_width=8), FACTS),
            "w_0",
            "9 is no multiple of 8",
        ),
    ],
)
def test_what_cannot_work(problems: Iterable[Problem], path: str, text: str) -> None:
    """`problems` is called with a config in the place of self."""
    (problem,) = problems
    assert (problem.path, text in problem.message) == (path, True)


def test_what_cannot_work_is_refused_when_built() -> None:
    with pytest.raises(ValueError, match="w_0: 9 is no multiple of 8"):
        tiny(w_0=9)
    with pytest.raises(ValueError, match="groups of 5 do not divide 8 channels"):
        any_tiny(group_widths=[5, 8])


OF_SEER = (RegNetName.Y_64GF, RegNetName.Y_256GF, RegNetName.SEER_10B)


@pytest.mark.parametrize("name", [name for name in RegNetName if name not in OF_SEER])
def test_stages_are_those_of_torchvision(name: RegNetName, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[reference.BlockParams] = []
    monkeypatch.setattr(reference, "RegNet", lambda params, **_: found.append(params))
    getattr(reference, name.value.replace(".", "_"))()
    ours = stages_of(DESIGNS[name])
    assert (ours.depths, ours.widths, ours.group_widths) == (found[0].depths, found[0].widths, found[0].group_widths)
    with torch.device("meta"):
        trunk = NamedRegNet(name=name)
    squeezes = [module for module in trunk.modules() if type(module).__name__ == "SqueezeExcitation"]
    assert len(squeezes) == (sum(ours.depths) if found[0].se_ratio else 0)


def test_stages_by_hand() -> None:
    """8, 14, 20, 26, 32 are nearest to 8, 16, 16, 32, 32 in log space; a group is at most as wide as its stage."""
    with torch.device("meta"):  # where a plan builds trunks, and tensors have no values
        stages = stages_of(Design(5, 8, 6.0, 2.0, 16))
    assert (stages.depths, stages.widths, stages.group_widths) == ([1, 2, 2], [8, 16, 32], [8, 16, 16])
    assert stages.strides == [2, 2, 2]


def test_widths_are_multiples_of_their_groups_within_the_block() -> None:
    stages = stages_of(Design(4, 24, 8.0, 1.5, 16), bottleneck_multiplier=0.5)
    assert all(width * 0.5 % group == 0 for width, group in zip(stages.widths, stages.group_widths, strict=True))

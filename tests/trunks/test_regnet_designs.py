"""The stages of the published RegNets against torchvision's, and the rule by hand."""

import pytest
import torch
from torchvision.models import regnet as reference

from ssltyped.trunks.regnet import NamedRegNet
from ssltyped.trunks.regnet_designs import DESIGNS, Design, RegNetName, stages_of

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

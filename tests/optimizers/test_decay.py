"""Decay: each rule alone, for every kind of parameter."""

from typing import Optional

import pytest
import torch
from torch import nn

from ssltyped.optimizers.decay import Decay
from ssltyped.optimizers.lars import LARS
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.torch_optim import AdamW

MATRIX, VECTOR = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))
PARAMETERS: dict[str, tuple[nn.Parameter, nn.Module]] = {
    "fc.weight": (MATRIX, nn.Linear(2, 2)),
    "fc.bias": (VECTOR, nn.Linear(2, 2)),
    "norm.weight": (VECTOR, nn.LayerNorm(2)),
    "norm.bias": (VECTOR, nn.LayerNorm(2)),
    "block.gamma": (VECTOR, nn.Module()),
}


def moved(decay: Decay, norm: Optional[bool] = None) -> set[str]:
    return {name for name, (parameter, module) in PARAMETERS.items() if decay.moves(name, parameter, module, norm)}


@pytest.mark.parametrize(
    ("decay", "left_out"),
    [
        (Decay(), {"norm.weight", "norm.bias"}),
        (Decay(norm=True), set()),
        (Decay(norm=True, bias=False), {"fc.bias", "norm.bias"}),
        (Decay(norm=True, vector=False), {"block.gamma"}),
        (Decay(bias=False, vector=False), {"fc.bias", "norm.weight", "norm.bias", "block.gamma"}),
        (Decay(norm=True, exclude=["fc", "gam"]), {"fc.weight", "fc.bias", "block.gamma"}),
    ],
)
def test_what_is_left_out(decay: Decay, left_out: set[str]) -> None:
    assert PARAMETERS.keys() - moved(decay) == left_out


def test_a_group_may_say_it_of_its_own_norms() -> None:
    assert PARAMETERS.keys() - moved(Decay(), norm=True) == set()
    assert PARAMETERS.keys() - moved(Decay(norm=True), norm=False) == {"norm.weight", "norm.bias"}
    assert PARAMETERS.keys() - moved(Decay(bias=False), norm=True) == {"fc.bias", "norm.bias"}


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(2), nn.SyncBatchNorm(2), nn.GroupNorm(1, 2), nn.RMSNorm(2)])
def test_norms_are_known_by_their_class(norm: nn.Module) -> None:
    assert not Decay().moves("whatever.weight", nn.Parameter(torch.zeros(2)), norm)


@pytest.mark.parametrize("kind", [AdamW, LARS])
def test_biases_norms_and_vectors_are_not_decayed_by_adamw_and_lars(kind: type[AdamW | LARS]) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.ParameterList([VECTOR]))
    groups = kind(rate=Rate(lr=0.1), weight_decay=0.3)(model).param_groups
    decayed = {parameter for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert decayed == {dict(model.named_parameters())["0.weight"]}


def test_lars_adapts_no_rate_of_a_vector() -> None:
    assert all(group["exclude_vectors"] for group in LARS(rate=Rate(lr=0.1))(nn.Linear(3, 3)).param_groups)

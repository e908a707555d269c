"""Parameter groups: those recorded for a ResNet-50 with heads, every rule alone, sharing and freezing."""

from dataclasses import dataclass
from typing import Optional

import pytest
import torch
from golden_cases import load_cases
from torch import Tensor, nn

from ssltyped.heads.identity import IdentityHead
from ssltyped.heads.mlp import MLPHead
from ssltyped.optimizers.sgd import SGD
from ssltyped.trunks.resnet import Norm, ResNet
from ssltyped.types import Head


@dataclass
class Options:
    weight_decay: float
    regularize_bn: bool
    regularize_bias: bool


@dataclass
class Case:
    id: str
    params: Options
    frozen: list[str]
    groups: list[tuple[str, float, str]]


class Nest(nn.Module):
    """Trunk and heads under the names of a model."""

    def __init__(self, trunk: nn.Module, heads: list[nn.Module]) -> None:
        super().__init__()
        self.trunk, self.heads = trunk, nn.ModuleList(heads)


def tiny(use_bn: bool = False) -> Nest:
    trunk = ResNet(depth=18, width_multiplier=0.125)
    return Nest(trunk, [MLPHead(in_dim=64, dims=[8, 4], use_bn=use_bn)])


def names(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, set[str]]:
    """Group name -> parameter names; every trainable parameter is in one group, once."""
    by_id = {id(parameter): name for name, parameter in module.named_parameters()}
    listed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    return {group["name"]: {by_id[id(p)] for p in group["params"]} for group in optimizer.param_groups}


def recorded_model(case: Case) -> Nest:
    """Linear and batch-norm layers where the recorded model has them."""
    heads: list[nn.Module]
    if case.id == "param_groups.12":
        heads = [MLPHead(in_dim=2048, dims=[10])]
    elif case.id == "param_groups.18":
        inner = [MLPHead(in_dim=n, dims=[9], use_bn=True, use_bias=False, last_layer_bare=False) for n in (2048, 9)]
        heads = [*inner, MLPHead(in_dim=9, dims=[9], use_bias=False)]
    else:
        heads = [MLPHead(in_dim=2048, dims=[9]), MLPHead(in_dim=9, dims=[9])]
    return Nest(ResNet(depth=50), heads)


@pytest.mark.parametrize("case", load_cases("optim_groups", Case), ids=lambda case: case.id)
def test_groups_of_resnet50_are_those_recorded(case: Case) -> None:
    with torch.device("meta"):
        model = recorded_model(case)
    for name in case.frozen:
        model.get_parameter(name).requires_grad_(False)
    sgd = SGD(
        lr=0.3,
        weight_decay=case.params.weight_decay,
        decay_norm=case.params.regularize_bn,
        decay_bias=case.params.regularize_bias,
        head_lr=0.6,
    )
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    ours = [
        ({0.3: "LR", 0.6: "LR_HEAD"}[g["lr"]], g["weight_decay"], [by_id[id(p)] for p in g["params"]])
        for g in sgd(model).param_groups
    ]
    assert ours == [(lr, wd, listed.split()) for lr, wd, listed in case.groups if listed]


@pytest.mark.parametrize("norm", list(Norm))
def test_normalization_is_recognised_by_class(norm: Norm) -> None:
    """GroupNorm too, which VISSL decays."""
    trunk = ResNet(depth=18, norm=norm)
    found = names(trunk, SGD(lr=0.1)(trunk))
    assert {name for name in found["trunk.no_decay"] if name.endswith("weight")} == {
        f"{path}.weight" for path, module in trunk.named_modules() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)
    }


def test_no_decay_names_and_values_of_groups() -> None:
    model = tiny(use_bn=True)
    sgd = SGD(lr=0.5, weight_decay=0.1, decay_norm=True, no_decay=["conv1", "heads.0.layers.3"], head_lr=0.05,
              head_weight_decay=0.2)  # fmt: skip
    optimizer = sgd(model)
    found = names(model, optimizer)
    assert found["head.no_decay"] == {"heads.0.layers.3.weight", "heads.0.layers.3.bias"}
    assert all("conv1" in name for name in found["trunk.no_decay"])
    assert not any("conv1" in name for name in found["trunk.decay"])
    values = {g["name"]: (g["weight_decay"], g["lr"], g["lr_scale"]) for g in optimizer.param_groups}
    assert values == {
        "trunk.decay": (0.1, 0.5, 1.0),
        "trunk.no_decay": (0.0, 0.5, 1.0),
        "head.decay": (0.2, pytest.approx(0.05), pytest.approx(0.1)),
        "head.no_decay": (0.0, pytest.approx(0.05), pytest.approx(0.1)),
    }


def test_no_decay_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter has 'con1' in its name; did you mean 'conv1'"):
        SGD(lr=0.1, no_decay=["con1"])(tiny())


def test_roles_are_those_of_the_innermost_trunk_or_head() -> None:
    class Method(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = tiny()
            self.predictor = MLPHead(in_dim=4, dims=[4], use_bias=False)
            self.prototypes = nn.Linear(4, 7, bias=False)

    found = names(method := Method(), SGD(lr=0.1, decay_norm=True)(method))
    assert found["other.decay"] == {"prototypes.weight"}
    assert "predictor.layers.0.weight" in found["head.decay"]
    assert list(found) == ["trunk.decay", "head.decay", "other.decay"]


def test_a_shared_parameter_is_optimized_once_and_a_frozen_one_never() -> None:
    model = tiny()
    tied = MLPHead(in_dim=8, dims=[4])
    tied.layers[0].weight = model.heads[0].get_parameter("layers.2.weight")
    model.heads.append(tied)
    model.trunk.requires_grad_(False)
    found = names(model, SGD(lr=0.1, decay_bias=False)(model))
    assert set(found) == {"head.decay", "head.no_decay"}


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter is trainable"):
        SGD(lr=0.1)(IdentityHead(in_dim=3))


class Parametrized(Head):
    """A head with a token of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.in_dim: Optional[int] = 3
        self.token = nn.Parameter(torch.zeros(3))
        self.attention = nn.MultiheadAttention(4, 2)

    @property
    def out_dim(self) -> int:
        return 3

    def forward(self, features: Tensor) -> Tensor:
        return features + self.token


def test_biases_by_any_name() -> None:
    head = Parametrized()
    found = names(head, SGD(lr=0.1, decay_bias=False)(head))
    assert found["head.no_decay"] == {"attention.in_proj_bias", "attention.out_proj.bias"}
    assert "token" in found["head.decay"]

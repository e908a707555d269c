"""Parameter groups: those recorded for a ResNet-50 with heads, every rule alone, sharing and freezing."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from golden_cases import load_cases
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.heads.identity import IdentityHead
from ssltyped.heads.mlp import MLPHead
from ssltyped.optimizers.groups import PerHead
from ssltyped.optimizers.sgd import SGD
from ssltyped.trunks.resnet import Norm, ResNet
from ssltyped.types import Features, Head, Trunk


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
        self.in_dim = 3
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


class TinyViT(Trunk):
    """The names of a vision transformer, with a layer scale."""

    feature_dims: ClassVar[dict[str, int]] = {"trunk": 4}

    def __init__(self) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, 4)), nn.Parameter(torch.zeros(1, 5, 4))
        self.patch_embed = nn.Conv2d(3, 4, 2)
        self.blocks = nn.ModuleList(nn.ModuleDict({"norm": nn.LayerNorm(4), "fc": nn.Linear(4, 4)}) for _ in range(3))
        self.blocks[0].register_parameter("gamma", nn.Parameter(torch.zeros(4)))
        self.norm = nn.LayerNorm(4)

    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        return [images]


def vit() -> Nest:
    return Nest(TinyViT(), [MLPHead(in_dim=4, dims=[2])])


def test_neither_biases_nor_vectors_are_decayed_as_dino_trains() -> None:
    model = vit()
    found = names(model, SGD(lr=0.1, decay_bias=False, decay_vector=False)(model))
    assert set(found["trunk.no_decay"]) == {
        name for name, p in model.trunk.named_parameters(prefix="trunk") if p.ndim == 1 or "norm" in name
    }
    assert {"trunk.cls_token", "trunk.pos_embed", "trunk.patch_embed.weight"} <= found["trunk.decay"]
    assert "trunk.blocks.0.gamma" in names(model, SGD(lr=0.1)(model))["trunk.decay"]


def test_rates_fall_towards_the_input_layer_by_layer() -> None:
    model = vit()
    optimizer = SGD(lr=0.5, head_lr=0.25, layer_decay=0.5, decay_bias=False)(model)
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {by_id[id(p)]: group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    for name, rate in rates.items():
        if name.startswith("heads."):
            depth, top = 4, 0.5
        elif ".blocks." in name:
            depth, top = int(name.split(".")[2]) + 1, 1.0
        else:
            depth, top = 3 if name.startswith("trunk.norm") else 0, 1.0
        assert rate == pytest.approx(top * 0.5 ** (4 - depth)), name
    assert [g["name"] for g in optimizer.param_groups][:3] == [
        "trunk.layer0.decay", "trunk.layer0.no_decay", "trunk.layer1.decay",
    ]  # fmt: skip
    assert names(model, optimizer)["trunk.layer3.no_decay"] == {
        "trunk.blocks.2.norm.weight", "trunk.blocks.2.norm.bias", "trunk.blocks.2.fc.bias",
        "trunk.norm.weight", "trunk.norm.bias",
    }  # fmt: skip


def test_heads_of_their_own() -> None:
    model = Nest(TinyViT(), [MLPHead(in_dim=4, dims=[2, 2], use_bn=True) for _ in range(3)])
    model.trunk.requires_grad_(False)
    own = [PerHead(lr_scale=0.1), PerHead(weight_decay=0.7, decay_norm=True), PerHead()]
    optimizer = SGD(lr=0.5, weight_decay=0.1, head_lr=0.25, per_head=own)(model)
    values = {g["name"]: (g["weight_decay"], g["lr_scale"], g["wd_scale"]) for g in optimizer.param_groups}
    assert values == {
        "head0.decay": (0.1, pytest.approx(0.05), pytest.approx(1.0)),
        "head0.no_decay": (0.0, pytest.approx(0.05), 0.0),
        "head1.decay": (0.7, pytest.approx(0.5), pytest.approx(7.0)),
        "head2.decay": (0.1, pytest.approx(0.5), pytest.approx(1.0)),
        "head2.no_decay": (0.0, pytest.approx(0.5), 0.0),
    }
    assert all(name.startswith("heads.1.") for name in names(model, optimizer)["head1.decay"])
    with pytest.raises(ValueError, match="per_head: 1 entries for 3 heads"):
        SGD(lr=0.5, per_head=[PerHead()])(model)


class Stepped(nn.Module):
    """A model beside a loss with a teacher's copy of it, and a head that learns in the loss."""

    def __init__(self, model: Nest) -> None:
        super().__init__()
        self.model, self.loss = model, nn.Module()
        self.loss.teacher = nn.Module()
        self.loss.teacher.model = deepcopy(model).requires_grad_(False)
        self.loss.predictor = MLPHead(in_dim=2, dims=[2])


def test_heads_of_a_loss_are_none_of_the_model() -> None:
    module = Stepped(Nest(TinyViT(), [MLPHead(in_dim=4, dims=[2]) for _ in range(3)]))
    module.model.heads[0].requires_grad_(False)  # frozen for ever: the others keep their numbers
    own = [PerHead(), PerHead(lr_scale=0.1), PerHead(weight_decay=0.7)]
    optimizer = SGD(lr=0.5, weight_decay=0.1, per_head=own)(module)
    values = {g["name"]: (g["weight_decay"], g["lr_scale"]) for g in optimizer.param_groups if "head" in g["name"]}
    assert values == {
        "head.decay": (0.1, pytest.approx(1.0)),
        "head1.decay": (0.1, pytest.approx(0.1)),
        "head2.decay": (0.7, pytest.approx(1.0)),
    }
    found = names(module, optimizer)
    assert found["head.decay"] == {f"loss.predictor.layers.0.{kind}" for kind in ("weight", "bias")}
    assert found["head2.decay"] == {f"model.heads.2.layers.0.{kind}" for kind in ("weight", "bias")}
    with pytest.raises(ValueError, match="per_head: 6 entries for 3 heads"):
        SGD(lr=0.5, per_head=own * 2)(module)


def test_a_trunk_without_layers_is_an_error() -> None:
    model = Nest(Bare(), [])
    with pytest.raises(ValueError, match="layer_decay: Bare has no parameter in blocks"):
        SGD(lr=0.1, layer_decay=0.5)(model)


class Bare(Trunk):
    """A trunk of one tensor."""

    feature_dims: ClassVar[dict[str, int]] = {"trunk": 1}

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        return [images]

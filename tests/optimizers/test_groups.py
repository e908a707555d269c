"""Parameter groups: those recorded for a ResNet-50 with heads, parts of their own, every rule alone, freezing."""

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Optional

import pytest
import torch
from golden_cases import load_cases
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.heads.mlp import MLPHead
from ssltyped.heads.plumbing import IdentityHead
from ssltyped.optimizers.decay import Decay
from ssltyped.optimizers.groups import Group, GroupConf, faults
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.torch_optim import SGD
from ssltyped.schedulers.curves import Constant
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
        rate=Rate(lr=0.3),
        weight_decay=case.params.weight_decay,
        decay=Decay(norm=case.params.regularize_bn, bias=case.params.regularize_bias),
        groups=[Group(parts=["heads"], lr=0.6)],
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
    found = names(trunk, SGD(rate=Rate(lr=0.1))(trunk))
    assert {name for name in found["no_decay"] if name.endswith("weight")} == {
        f"{path}.weight" for path, module in trunk.named_modules() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)
    }


def test_no_decay_names_and_values_of_groups() -> None:
    model = tiny(use_bn=True)
    decay = Decay(norm=True, exclude=["conv1", "heads.0.layers.3"])
    heads = Group(parts=["heads"], lr=0.05, weight_decay=0.2)
    optimizer = SGD(rate=Rate(lr=0.5), weight_decay=0.1, decay=decay, groups=[heads])(model)
    found = names(model, optimizer)
    assert found["heads.no_decay"] == {"heads.0.layers.3.weight", "heads.0.layers.3.bias"}
    assert all("conv1" in name for name in found["no_decay"])
    assert not any("conv1" in name for name in found["decay"])
    values = {g["name"]: (g["weight_decay"], g["lr"], g["lr_scale"]) for g in optimizer.param_groups}
    assert values == {
        "decay": (0.1, 0.5, 1.0),
        "no_decay": (0.0, 0.5, 1.0),
        "heads.decay": (0.2, pytest.approx(0.05), pytest.approx(0.1)),
        "heads.no_decay": (0.0, pytest.approx(0.05), pytest.approx(0.1)),
    }


def test_an_exclusion_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter has 'con1' in its name; did you mean 'conv1'"):
        SGD(rate=Rate(lr=0.1), decay=Decay(exclude=["con1"]))(tiny())


def test_a_shared_parameter_is_optimized_once_and_a_frozen_one_never() -> None:
    model = tiny()
    tied = MLPHead(in_dim=8, dims=[4])
    tied.layers[0].weight = model.heads[0].get_parameter("layers.2.weight")
    model.heads.append(tied)
    model.trunk.requires_grad_(False)
    found = names(model, SGD(rate=Rate(lr=0.1), decay=Decay(bias=False))(model))
    assert set(found) == {"decay", "no_decay"}
    own = names(model, SGD(rate=Rate(lr=0.1), groups=[Group(parts=["heads.1"], lr_scale=2.0)])(model))
    assert own["heads.1.decay"] == {"heads.0.layers.2.weight", "heads.1.layers.0.bias"}, (
        "it is of its group at any place"
    )


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter is trainable"):
        SGD(rate=Rate(lr=0.1))(IdentityHead(in_dim=3))


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
    found = names(head, SGD(rate=Rate(lr=0.1), decay=Decay(bias=False))(head))
    assert found["no_decay"] == {"attention.in_proj_bias", "attention.out_proj.bias"}
    assert "token" in found["decay"]


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
    found = names(model, SGD(rate=Rate(lr=0.1), decay=Decay(bias=False, vector=False))(model))
    assert set(found["no_decay"]) == {name for name, p in model.named_parameters() if p.ndim == 1 or "norm" in name}
    assert {"trunk.cls_token", "trunk.pos_embed", "trunk.patch_embed.weight"} <= found["decay"]
    assert "trunk.blocks.0.gamma" in names(model, SGD(rate=Rate(lr=0.1))(model))["decay"]


def test_rates_fall_towards_the_input_layer_by_layer() -> None:
    model = vit()
    rate, heads = Rate(lr=0.5, layer_decay=0.5), Group(parts=["heads"], lr=0.25)
    optimizer = SGD(rate=rate, decay=Decay(bias=False), groups=[heads])(model)
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
        "layer0.decay", "layer0.no_decay", "layer1.decay",
    ]  # fmt: skip
    assert names(model, optimizer)["layer3.no_decay"] == {
        "trunk.blocks.2.norm.weight", "trunk.blocks.2.norm.bias", "trunk.blocks.2.fc.bias",
        "trunk.norm.weight", "trunk.norm.bias",
    }  # fmt: skip


def test_heads_of_their_own() -> None:
    model = Nest(TinyViT(), [MLPHead(in_dim=4, dims=[2, 2], use_bn=True) for _ in range(3)])
    model.trunk.requires_grad_(False)
    own = [
        Group(parts=["heads.0"], lr=0.25, lr_scale=0.1),
        Group(parts=["heads.1"], lr=0.25, weight_decay=0.7, decay_norm=True),
        Group(parts=["heads.2"], lr=0.25),
    ]
    optimizer = SGD(rate=Rate(lr=0.5), weight_decay=0.1, groups=own)(model)
    values = {g["name"]: (g["weight_decay"], g["lr_scale"], g["wd_scale"]) for g in optimizer.param_groups}
    assert values == {
        "heads.0.decay": (0.1, pytest.approx(0.05), pytest.approx(1.0)),
        "heads.0.no_decay": (0.0, pytest.approx(0.05), 0.0),
        "heads.1.decay": (0.7, pytest.approx(0.5), pytest.approx(7.0)),
        "heads.2.decay": (0.1, pytest.approx(0.5), pytest.approx(1.0)),
        "heads.2.no_decay": (0.0, pytest.approx(0.5), 0.0),
    }
    assert all(name.startswith("heads.1.") for name in names(model, optimizer)["heads.1.decay"])


class Stepped(nn.Module):
    """A model beside a loss with a teacher's copy of it, a head that learns in the loss, and a parameter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = model, nn.Module()
        self.loss.teacher = nn.Module()
        self.loss.teacher.model = deepcopy(model).requires_grad_(False)
        self.loss.predictor = MLPHead(in_dim=2, dims=[2])
        self.loss.prototypes = nn.Parameter(torch.zeros(5, 2))


def test_parts_of_model_and_loss_by_the_names_that_a_user_sees() -> None:
    """Those of the model are below `model.` there, and a teacher has copies of them: these are other parts."""
    module = Stepped(vit())
    own = [
        Group(parts=["loss.predictor", "trunk.blocks.1"], lr_scale=10.0),
        Group(parts=["loss.prototypes"], lr=0.2, weight_decay=0.0),
    ]
    optimizer = SGD(rate=Rate(lr=0.5), weight_decay=0.1, groups=own)(module)
    values = {g["name"]: (g["weight_decay"], g["lr"], g["lr_scale"], g["schedule"]) for g in optimizer.param_groups}
    assert values == {
        "decay": (0.1, 0.5, 1.0, ""),
        "no_decay": (0.0, 0.5, 1.0, ""),
        "loss.predictor,trunk.blocks.1.decay": (0.1, 5.0, 10.0, ""),
        "loss.predictor,trunk.blocks.1.no_decay": (0.0, 5.0, 10.0, ""),
        "loss.prototypes.decay": (0.0, 0.2, pytest.approx(0.4), ""),
    }
    found = names(module, optimizer)
    assert found["loss.prototypes.decay"] == {"loss.prototypes"}
    assert found["loss.predictor,trunk.blocks.1.no_decay"] == {
        "model.trunk.blocks.1.norm.weight", "model.trunk.blocks.1.norm.bias",
    }  # fmt: skip
    assert {"loss.predictor.layers.0.weight", "model.trunk.blocks.1.fc.bias"} <= found[
        "loss.predictor,trunk.blocks.1.decay"
    ]


def test_a_dict_of_heads_has_them_by_their_names() -> None:
    model = nn.ModuleDict({"heads": nn.ModuleDict({"projector": MLPHead(in_dim=4, dims=[3, 2])})})
    own = Group(parts=["heads.projector.layers.2"], lr_scale=0.5)
    found = names(model, SGD(rate=Rate(lr=0.1), groups=[own])(model))
    assert found["heads.projector.layers.2.decay"] == {
        f"heads.projector.layers.2.{kind}" for kind in ("weight", "bias")
    }


def test_a_part_of_the_trunk_keeps_the_factor_of_its_layer() -> None:
    model = vit()
    own = Group(parts=["trunk.blocks.0"], lr_scale=3.0, schedule=Constant(value=1.5))
    half = Group(parts=["trunk.blocks.1"], lr_scale=0.5)
    optimizer = SGD(rate=Rate(lr=0.5, layer_decay=0.5), decay=Decay(norm=True), groups=[own, half])(model)
    values = {g["name"]: (g["lr"], g["lr_scale"], g["schedule"]) for g in optimizer.param_groups}
    assert values["trunk.blocks.0.layer1.decay"] == (1.5 * 0.125, 0.125, "trunk.blocks.0"), "times its own schedule"
    assert values["trunk.blocks.1.layer2.decay"] == (0.5 * 0.5 * 0.25, 0.5 * 0.25, "")
    assert values["layer4.decay"] == (0.5, 1.0, "")


@pytest.mark.parametrize(
    ("groups", "path", "message"),
    [
        (
            [["heads.0", "loss.predicter"]],
            "groups.0.parts.1",
            "no module and no parameter 'loss.predicter'; did you mean 'loss.pr",
        ),
        ([["loss.teacher"]], "groups.0.parts.0", "nothing in 'loss.teacher' learns"),
        ([["trunk"], ["heads", "trunk.blocks.1"]], "groups.1.parts.1", "'trunk.blocks.1' are in groups.0 too"),
        ([["trunk.blocks.1.fc.bias"], ["trunk"]], "groups.1.parts.0", "'trunk' are in groups.0 too"),
    ],
)
def test_wrong_names_are_errors(groups: list[list[str]], path: str, message: str) -> None:
    module, own = Stepped(vit()), [Group(parts=parts) for parts in groups]
    (fault,) = faults(module, groups)
    assert fault.path == path
    assert message in fault.message
    with pytest.raises(ValueError, match=re.escape(f"{path}: {fault.message}")):
        SGD(rate=Rate(lr=0.5), groups=own)(module)


def test_all_wrong_names_at_once() -> None:
    groups = [["trnk", "heads"], ["head", "loss"], ["loss", "loss.predictor"]]
    found = [fault.path for fault in faults(Stepped(vit()), groups)]
    assert found == ["groups.0.parts.0", "groups.1.parts.0", "groups.2.parts.0", "groups.2.parts.1"]


@pytest.mark.parametrize(
    ("lr", "scale", "peak"), [(None, 1.0, 0.3), (None, 10.0, 3.0), (0.7, 1.0, 0.7), (0.7, 0.5, 0.35)]
)
def test_the_highest_rate_of_a_group(lr: Optional[float], scale: float, peak: float) -> None:
    assert Group.peak(Group(parts=["heads"], lr=lr, lr_scale=scale), 0.3) == pytest.approx(peak)
    assert Group.peak(GroupConf(parts=["heads"], lr=lr, lr_scale=scale), 0.3) == pytest.approx(peak)


def test_a_trunk_without_layers_is_an_error() -> None:
    model = Nest(Bare(), [])
    with pytest.raises(ValueError, match="layer_decay: Bare has no parameter in blocks"):
        SGD(rate=Rate(lr=0.1, layer_decay=0.5))(model)


class Bare(Trunk):
    """A trunk of one tensor."""

    feature_dims: ClassVar[dict[str, int]] = {"trunk": 1}

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        return [images]

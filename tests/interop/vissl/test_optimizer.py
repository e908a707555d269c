"""Optimizers: each reads its own options; groups, heads, LARC and weight decay; names of parameters in our words."""

from collections.abc import Mapping
from typing import Optional

import pytest

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.resolve import Row
from ssltyped.interop.vissl.optimizer import OPTIMIZERS, Training, Weights, training
from ssltyped.interop.vissl.schedules import Size
from ssltyped.interop.vissl.settings import Settings
from ssltyped.interop.vissl.yaml import Tree
from ssltyped.optimizers.decay import DecayConf
from ssltyped.optimizers.groups import GroupConf
from ssltyped.optimizers.larc import LARCConf
from ssltyped.optimizers.lars import LARSConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf, RMSpropConf, SGDConf
from ssltyped.optimizers.zero import ZeroConf
from ssltyped.schedulers.curves import ConstantConf
from ssltyped.types import Optimizer

NAMES = {"trunk.cls_token": "trunk.class_token", "trunk.fc.weight": "trunk.fc.weight", "trunk.pos": "trunk.pos"}
NAMES |= {f"heads.{name}.layers.0.{kind}": f"heads.{i}.clf.0.{kind}" for i, name in enumerate("ab") for kind in "wb"}
COSINE: Tree = {"name": "cosine", "start_value": 0.4, "end_value": 0.0}
SHARED: Tree = {"momentum": 0.8, "nesterov": True, "betas": [0.8, 0.9], "weight_decay": 0.01}


def imported(values: Tree, rows: Optional[list[Row]] = None, resnet: bool = True) -> Training:
    schedules: Tree = {"lr": COSINE}
    section = Settings({"num_epochs": 7, "param_schedulers": schedules, **values}, "config.OPTIMIZER", set())
    return training(section, Size(256, 256, 1, 0), Weights(NAMES, resnet), [] if rows is None else rows)


def sgd(**fields: object) -> Optimizer:
    """What the shared settings make of it, with these fields."""
    shared = SGDConf(rate=RateConf(lr=0.4), momentum=0.8, nesterov=True, weight_decay=0.01)
    return config.replaced(shared, fields)


RATE = RateConf(lr=0.4)
CASES: list[tuple[str, Tree, Optimizer]] = [
    ("sgd", {}, sgd()),
    ("adamw_mt", {"eps": 1e-7}, AdamWConf(rate=RATE, betas=(0.8, 0.9), eps=1e-7, weight_decay=0.01, decay=DecayConf())),
    (
        "lars",
        {"eta": 0.5, "exclude_bias_and_norm": True},
        LARSConf(rate=RATE, momentum=0.8, eta=0.5, exclude_bias_and_norm=True, weight_decay=0.01, decay=DecayConf()),
    ),
    (
        "lars",
        {},
        LARSConf(rate=RATE, momentum=0.8, exclude_bias_and_norm=False, weight_decay=0.01, decay=DecayConf()),
    ),
    ("rmsprop", {"alpha": 0.7}, RMSpropConf(rate=RateConf(lr=0.4), momentum=0.8, alpha=0.7, weight_decay=0.01)),
    (
        "sgd_fsdp",
        {"regularize_bn": True},
        sgd(decay=DecayConf(norm=True)),
    ),
    (
        "sgd",
        {"regularize_bias": False},
        sgd(decay=DecayConf(bias=False)),
    ),
    (
        "sgd",
        {"use_larc": True, "larc_config": {"clip": True, "trust_coefficient": 0.02}},
        sgd(
            larc=LARCConf(clip=True, trust_coefficient=0.02),
        ),
    ),
    (
        "sgd",
        {"use_zero": True},
        sgd(zero=ZeroConf()),
    ),
    (
        "sgd",
        {"construct_single_param_group_only": True, "non_regularized_parameters": ["pos"]},
        sgd(decay=DecayConf(norm=True)),
    ),
    (
        "sgd",
        {"head_optimizer_params": {"use_different_wd": True, "weight_decay": 0.5}},
        sgd(
            groups=[GroupConf(parts=["heads"], weight_decay=0.5)],
        ),
    ),
    (
        "sgd",
        {
            "head_optimizer_params": {"use_different_lr": True},
            "param_schedulers": {"lr": COSINE, "lr_head": {**COSINE, "start_value": 1.2}},
        },
        sgd(
            groups=[GroupConf(parts=["heads"], lr=1.2)],
        ),
    ),
]


@pytest.mark.parametrize(("name", "values", "wanted"), CASES)
def test_an_optimizer_has_the_options_that_the_settings_say(name: str, values: Tree, wanted: Optimizer) -> None:
    found = imported({**SHARED, **values, "name": name})
    assert config.to_tree(found.optimizer) == config.to_tree(config.check(wanted))
    assert found.epochs == 7


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_name_has_defaults(name: str) -> None:
    assert isinstance(config.build(imported({"name": name}).optimizer), OPTIMIZERS[name][0])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"param_group_constructor": "dino"}, {"decay.norm": False, "decay.bias": False}),
        ({"param_group_constructor": "lr_decay"}, {"rate.layer_decay": 0.9, "decay.bias": True}),
        (
            {
                "param_group_constructor": "linear_eval_heads",
                "linear_eval_heads": [{"lr": 2, "regularize_bn": True}, {}],
            },
            {"groups": [GroupConf(parts=["heads.a"], lr_scale=2.0, decay_norm=True), GroupConf(parts=["heads.b"])]},
        ),
    ],
)
def test_groups_follow_the_rule_that_is_named(values: Tree, wanted: Mapping[str, object]) -> None:
    found = imported(values).optimizer
    for field, value in wanted.items():
        assert config.to_tree(config.get(found, field)) == config.to_tree(value)


def test_with_layers_of_other_trunks_than_a_resnet_biases_are_not_decayed() -> None:
    found = imported({"param_group_constructor": "lr_decay", "regularize_bias": True}, resnet=False).optimizer
    assert config.get(found, "decay.bias") is False


def test_parameters_that_are_not_decayed_have_our_names_and_those_that_are_not_there_are_said() -> None:
    rows: list[Row] = []
    found = imported({"non_regularized_parameters": ["class_token", "pos", "position"]}, rows)
    assert config.get(found.optimizer, "decay.exclude") == ["trunk.cls_token", "pos"]
    path = "config.OPTIMIZER.non_regularized_parameters"
    assert rows == [Row(path, "position", None, "no parameter has it in its name")]


def test_a_schedule_of_the_weight_decay_ends_where_it_says() -> None:
    schedules: Tree = {"lr": COSINE, "weight_decay": {"name": "cosine", "start_value": 0.04, "end_value": 0.4}}
    found = imported({"param_schedulers": schedules, "weight_decay": 0.1}).optimizer
    assert config.get(found, "weight_decay") == 0.4
    built = config.build(config.get(found, "decay.schedule"))
    assert [built(0.0), built(0.5)] == pytest.approx([0.04, 0.22])


def test_heads_with_a_learning_rate_that_falls_otherwise_have_a_schedule_of_their_own() -> None:
    schedules: Tree = {"lr": COSINE, "lr_head": {"name": "constant", "value": 0.1}}
    found = imported({"head_optimizer_params": {"use_different_lr": True}, "param_schedulers": schedules}).optimizer
    wanted = [GroupConf(parts=["heads"], lr=0.1, schedule=ConstantConf(value=0.1))]
    assert config.to_tree(config.get(found, "groups")) == config.to_tree(wanted)


def test_what_all_heads_have_each_has_beside_its_own() -> None:
    heads: Tree = {
        "param_group_constructor": "linear_eval_heads",
        "linear_eval_heads": [{"lr": 2}, {"weight_decay": 0}],
    }
    found = imported({**heads, "head_optimizer_params": {"use_different_wd": True, "weight_decay": 0.5}}).optimizer
    first = GroupConf(parts=["heads.a"], lr_scale=2.0, weight_decay=0.5)
    assert config.to_tree(config.get(found, "groups")) == config.to_tree(
        [first, GroupConf(parts=["heads.b"], weight_decay=0.0)]
    )


def test_the_learning_rate_is_the_highest_of_the_schedule() -> None:
    rising: Tree = {"name": "linear", "start_value": 0.0, "end_value": 2.0}
    composite: Tree = {
        "name": "composite",
        "schedulers": [rising, {**COSINE, "start_value": 2.0}],
        "lengths": [0.5, 0.5],
    }
    assert config.get(imported({"param_schedulers": {"lr": composite}}).optimizer, "rate.lr") == pytest.approx(
        2.0, rel=1e-3
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "sdg"}, "there is no such optimizer; did you mean 'sgd'?"),
        ({"param_group_constructor": "dyno"}, "did you mean 'dino'?"),
        ({"param_schedulers": {}}, "param_schedulers.lr: got None: want a schedule"),
        ({"param_schedulers": {"lr": COSINE, "weight_decay": 0.1}}, "weight_decay: got 0.1: want a schedule"),
        (
            {"param_group_constructor": "linear_eval_heads", "linear_eval_heads": [{"rl": 1}]},
            "got [{'rl': 1}]: 1 entries for 2 heads: want one each",
        ),
        (
            {"param_group_constructor": "linear_eval_heads", "linear_eval_heads": [{"rl": 1}, {}]},
            "want of each head lr, weight_decay, regularize_bn",
        ),
        ({"momentum": 2.0}, "config.OPTIMIZER.momentum: got 2.0"),
    ],
)
def test_mistakes_are_named(values: Tree, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(values)
    assert message in str(caught.value)

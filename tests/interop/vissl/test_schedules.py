"""Schedules: scaling rules on small examples computed by hand, warmups on one node and on several, every name."""

import math
from typing import Optional

import pytest

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.resolve import Row
from ssltyped.interop.vissl.schedules import SCHEDULES, Size, scaled, schedule
from ssltyped.interop.vissl.yaml import Tree, Value
from ssltyped.schedulers.composite import CompositeConf, Interval
from ssltyped.schedulers.cosine import CosineConf, CosineWarmRestartsConf, Wave
from ssltyped.schedulers.curves import ConstantConf, InverseSqrtConf, LinearConf, PolynomialConf
from ssltyped.schedulers.steps import MultiStepConf, PiecewiseConstantConf, StaircaseConf
from ssltyped.types import Scheduler, Update

ONE_NODE = Size(images=512, images_of_a_node=512, nodes=1, epochs=10)
FOUR_NODES = Size(images=2048, images_of_a_node=512, nodes=4, epochs=10)


def with_scaling(values: Tree, kind: str = "linear", base: float = 0.1) -> Tree:
    rule: Tree = {"auto_scale": True, "base_value": base, "base_lr_batch_size": 256, "scaling_type": kind}
    return {**values, "auto_lr_scaling": rule}


def after(values: Tree, size: Size, kind: str = "linear", rows: Optional[list[Row]] = None) -> Tree:
    return scaled(with_scaling(values, kind), size, "lr", [] if rows is None else rows)


def test_without_auto_scale_nothing_changes() -> None:
    rows: list[Row] = []
    values: Tree = {"name": "cosine", "start_value": 3.0, "auto_lr_scaling": {"auto_scale": False}}
    assert scaled(values, FOUR_NODES, "lr", rows) == values
    assert rows == []


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({"name": "cosine", "start_value": 2.0, "end_value": 0.2}, {"start_value": 0.8, "end_value": 0.08}),
        ({"name": "cosine_warm_restart", "start_value": 2.0, "end_value": 0.0}, {"start_value": 0.8, "end_value": 0.0}),
        ({"name": "multistep", "values": [1.0, 0.5, 0.1]}, {"values": [0.8, 0.4, 0.2]}),
        ({"name": "step", "values": [1.0]}, {"values": [0.8]}),
        ({"name": "step_with_fixed_gamma", "base_value": 1.0}, {"base_value": 0.8}),
        ({"name": "linear", "start_value": 1.0, "end_value": 2.0}, {"end_value": 0.8}),
        ({"name": "inverse_sqrt", "start_value": 1.0}, {"start_value": 0.8}),
        ({"name": "constant", "value": 1.0}, {"value": 0.8}),
    ],
)
def test_a_schedule_is_scaled_to_the_images_of_a_step(values: Tree, changed: Tree) -> None:
    found = after(values, FOUR_NODES)
    for key, value in {**values, **changed}.items():
        assert found[key] == pytest.approx(value)


def test_the_square_root_scales_too_and_each_change_is_a_row() -> None:
    rows: list[Row] = []
    found = after({"name": "constant", "value": 1.0}, FOUR_NODES, "sqrt", rows)
    assert found["value"] == pytest.approx(0.1 * math.sqrt(8))
    assert rows == [Row("lr.value", 1.0, found["value"], "0.1 x 2048 images a step / 256 (sqrt scaling)")]


def warmup_then_cosine(**more: Value) -> Tree:
    members: list[Value] = [
        {"name": "linear", "start_value": 9.0, "end_value": 9.0},
        {"name": "cosine", "start_value": 2.0, "end_value": 0.0},
    ]
    return {"name": "composite", "schedulers": members, "lengths": [0.1, 0.9], "update_interval": "step", **more}


def test_a_warmup_starts_at_the_learning_rate_of_one_node() -> None:
    found = after(warmup_then_cosine(), FOUR_NODES)["schedulers"]
    assert found == [
        {"name": "linear", "start_value": pytest.approx(0.2), "end_value": pytest.approx(0.8)},
        {"name": "cosine", "start_value": pytest.approx(0.8), "end_value": 0.0},
    ]


def test_on_one_node_it_goes_and_the_only_member_left_takes_the_place_of_all() -> None:
    found = after(warmup_then_cosine(), ONE_NODE)
    assert (found["name"], found["update_interval"]) == ("cosine", "step")
    one = config.build(schedule(found, 10, "lr"))
    assert [one(p) for p in (0.0, 0.5)] == pytest.approx([0.2, 0.1])


def test_with_the_square_root_on_one_node_the_warmup_falls() -> None:
    found = after(warmup_then_cosine(), ONE_NODE, "sqrt")["schedulers"]
    assert isinstance(found, list)
    assert found[0] == {
        "name": "linear",
        "start_value": pytest.approx(0.2),
        "end_value": pytest.approx(0.1 * math.sqrt(2)),
    }


def test_two_members_that_are_left_keep_three_lengths_which_is_an_error() -> None:
    values = warmup_then_cosine(lengths=[0.1, 0.4, 0.5])
    members = values["schedulers"]
    assert isinstance(members, list)
    members.append({"name": "constant", "value": 1.0})
    with pytest.raises(ConfigError, match="3 lengths for 2 schedulers"):
        config.build(schedule(after(values, ONE_NODE), 10, "lr"))


CASES: list[tuple[Tree, Scheduler]] = [
    ({"name": "constant", "value": 2}, ConstantConf(value=2.0)),
    (
        {"name": "cosine", "start_value": 1, "end_value": 0, "update_interval": "epoch"},
        CosineConf(start=1.0, end=0.0, update=Update.EPOCH),
    ),
    ({"name": "linear", "start_value": 0, "end_value": 1}, LinearConf(start=0.0, end=1.0)),
    (
        {"name": "multistep", "values": [1, 0.1, 0.01], "milestones": [3, 6]},
        MultiStepConf(values=[1.0, 0.1, 0.01], milestones=[3, 6], epochs=10),
    ),
    (
        {"name": "multistep", "values": [1, 0.1, 0.01], "update_interval": "step"},
        MultiStepConf(values=[1.0, 0.1, 0.01], milestones=[4, 8], epochs=10, update=Update.STEP),
    ),
    ({"name": "step", "values": [1, 0.5]}, PiecewiseConstantConf(values=[1.0, 0.5])),
    (
        {"name": "step_with_fixed_gamma", "base_value": 1, "gamma": 0.5, "num_decays": 3},
        StaircaseConf(start=1.0, gamma=0.5, num_decays=3),
    ),
    ({"name": "polynomial", "base_value": 1, "power": 2}, PolynomialConf(start=1.0, power=2.0)),
    (
        {"name": "inverse_sqrt", "start_value": 1, "warmup_interval_length": 0.1},
        InverseSqrtConf(start=1.0, warmup=0.1),
    ),
    (
        {
            "name": "cosine_warm_restart",
            "start_value": 1,
            "end_value": 0,
            "restart_interval_length": 0.25,
            "wave_type": "full",
        },
        CosineWarmRestartsConf(start=1.0, end=0.0, interval=0.25, wave=Wave.FULL),
    ),
    (
        {
            "name": "composite",
            "schedulers": [{"name": "constant", "value": 1}, {"name": "linear", "start_value": 1, "end_value": 0}],
            "lengths": [0.5, 0.5],
            "interval_scaling": ["rescaled", "fixed"],
        },
        CompositeConf(
            schedulers=[ConstantConf(value=1.0), LinearConf(start=1.0, end=0.0)],
            lengths=[0.5, 0.5],
            intervals=[Interval.RESCALED, Interval.FIXED],
        ),
    ),
]


@pytest.mark.parametrize(("values", "wanted"), CASES, ids=[str(case[0]["name"]) for case in CASES])
def test_every_schedule_has_the_values_that_the_settings_say(values: Tree, wanted: Scheduler) -> None:
    found = schedule(values, 10, "lr")
    assert config.to_tree(found) == config.to_tree(config.check(wanted))


def test_every_name_is_tried() -> None:
    assert {str(values["name"]) for values, _ in CASES} == set(SCHEDULES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "cosin", "start_value": 1.0}, "did you mean 'cosine'?"),
        ({"name": "cosine", "start_value": 1.0}, "lr.end_value: is missing"),
        ({"name": "constant", "value": 1.0, "update_interval": "iter"}, "lr.update_interval: got 'iter'"),
        (
            {"name": "composite", "schedulers": [{"name": "constant"}], "lengths": [1.0]},
            "lr.schedulers.0.value: is missing",
        ),
        (
            {"name": "composite", "schedulers": [], "lengths": [1.0], "interval_scaling": ["rescale"]},
            "did you mean 'rescaled'?",
        ),
    ],
)
def test_mistakes_are_named(values: Tree, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schedule(values, 10, "lr")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"name": "polynomial", "base_value": 1.0}, "linear", "the learning rate of 'polynomial' cannot be scaled"),
        ({"name": "cosine", "start_value": 0.0, "end_value": 0.0}, "linear", "lr.start_value: is 0"),
        ({"name": "multistep", "values": []}, "linear", "lr.values: got []"),
        ({"name": "constant", "value": 1.0}, "cubic", "want linear or sqrt"),
    ],
)
def test_what_cannot_be_scaled_is_named(values: Tree, kind: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        after(values, ONE_NODE, kind)
    assert message in str(caught.value)

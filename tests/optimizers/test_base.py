"""What optimizers share: their state, and schedules of the weight decay and of groups."""

import dataclasses
from typing import Optional

import pytest
import torch
from facts import FACTS
from torch import nn

from ssltyped.config import build
from ssltyped.config.resolve import resolve
from ssltyped.optimizers.decay import DecayConf
from ssltyped.optimizers.groups import Group, GroupConf
from ssltyped.optimizers.rate import Rate, RateConf
from ssltyped.optimizers.torch_optim import SGD, AdamW, AdamWConf, SGDConf
from ssltyped.schedulers.composite import CompositeConf
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.schedulers.curves import ConstantConf, LinearConf
from ssltyped.types import Facts, Scheduler


def test_state_dict_keeps_the_groups() -> None:
    layer = nn.Linear(2, 2)
    first, second = SGD(rate=Rate(lr=0.1))(layer), SGD(rate=Rate(lr=0.1))(layer)
    layer(torch.ones(1, 2)).sum().backward()
    first.step()
    second.load_state_dict(first.state_dict())
    assert second.param_groups[0]["lr_scale"] == 1.0
    assert second.param_groups[0]["name"] == "decay"


def facts_of(lr: Optional[float], one_node: Optional[float] = None) -> Facts:
    return dataclasses.replace(FACTS, world_size=16, ranks_per_node=8, lr=lr, base_lr_of_one_node=one_node)


def decayed(weight_decay: float, schedule: Scheduler) -> AdamW:
    return AdamWConf(rate=RateConf(lr=0.1), weight_decay=weight_decay, decay=DecayConf(schedule=schedule))


def test_a_schedule_of_the_weight_decay_is_inferred_from_it_and_not_from_lr() -> None:
    resolution = resolve(decayed(0.4, CosineConf(end=0.04)), lambda _: facts_of(0.1))
    assert [(row.field, row.value) for row in resolution.rows] == [("decay.schedule.start", 0.4)]
    assert "weight_decay 0.4" in resolution.rows[0].rule
    schedule = build(resolution.config).schedules["weight_decay"]
    assert schedule(0.0) == pytest.approx(0.4)
    assert schedule(0.5) == pytest.approx(0.22)
    assert not resolve(resolution.config, lambda _: facts_of(0.1)).rows


def test_a_composite_schedule_of_the_weight_decay() -> None:
    parts = CompositeConf(schedulers=[LinearConf(), ConstantConf()], lengths=[0.5, 0.5])
    found = resolve(decayed(0.4, parts), lambda _: facts_of(0.1, 0.05)).config
    schedule = build(found).schedules["weight_decay"]
    assert [schedule(p) for p in (0.0, 0.25, 0.75)] == pytest.approx([0.0, 0.2, 0.4])


@pytest.mark.parametrize(
    "config, path",
    [
        (decayed(0.1, CosineConf(start=0.04, end=0.4)), "weight_decay"),
        (decayed(0.0, ConstantConf(value=0.0)), "decay.schedule"),
    ],
)
def test_a_weight_decay_that_its_schedule_ignores_is_a_problem(config: AdamW, path: str) -> None:
    assert [problem.path for problem in AdamW.problems(config, FACTS)] == [path]


def test_groups_follow_the_schedule_by_their_scale() -> None:
    """What the engine does with wd_scale: groups keep their ratio, what is not decayed stays at 0."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.LayerNorm(3), nn.Linear(3, 3))
    optimizer = AdamW(rate=Rate(lr=0.1), weight_decay=0.4, groups=[Group(parts=["0"], weight_decay=0.1)])(model)
    now = {group["name"]: 0.2 * group["wd_scale"] for group in optimizer.param_groups}
    assert now == pytest.approx({"0.decay": 0.05, "decay": 0.2, "no_decay": 0.0})


# --- schedules of groups ------------------------------------------------------------------------------------


def grouped(schedule: Scheduler, lr: Optional[float] = None, lr_scale: float = 1.0) -> SGD:
    group = GroupConf(parts=["loss.predictor"], lr=lr, lr_scale=lr_scale, schedule=schedule)
    return SGDConf(rate=RateConf(base_lr=0.1), groups=[GroupConf(parts=["heads"], lr_scale=3.0), group])


def resolved(config: SGD, one_node: Optional[float] = 0.05) -> SGD:
    """With the learning rate that follows from the batch in the first round, as a recipe has it."""
    return resolve(config, lambda now: facts_of(now.rate.lr, one_node)).config


@pytest.mark.parametrize(
    ("lr", "scale", "peak"), [(None, 10.0, 1.0), (0.7, 1.0, 0.7), (None, 1.0, 0.1), (0.7, 2.0, 1.4)]
)
def test_the_schedule_of_a_group_is_inferred_from_its_own_rate(lr: Optional[float], scale: float, peak: float) -> None:
    """The 16 ranks have 256 images a step, so that lr is base_lr."""
    found = resolved(grouped(CosineConf(end=0.01), lr, scale))
    schedules = build(found).schedules
    assert list(schedules) == ["loss.predictor"]
    assert schedules["loss.predictor"](0.0) == pytest.approx(peak)
    assert schedules["loss.predictor"](1.0) == pytest.approx(0.01)
    assert resolved(found) == found


def test_a_rule_says_from_what_the_schedule_of_a_group_was_inferred() -> None:
    rows = resolve(grouped(ConstantConf(), lr_scale=10.0), lambda now: facts_of(now.rate.lr)).rows
    rules = {row.field: row.rule for row in rows}
    rule = "the learning rate of the optimizer, here with groups.1.lr 1 for it"
    assert rules["groups.1.schedule.value"] == rule


def test_a_warmup_of_a_group_starts_at_its_share_of_the_rate_of_one_node() -> None:
    parts = CompositeConf(schedulers=[LinearConf(), ConstantConf()], lengths=[0.5, 0.5])
    schedule = build(resolved(grouped(parts, lr_scale=10.0))).schedules["loss.predictor"]
    assert [schedule(p) for p in (0.0, 0.25, 0.75)] == pytest.approx([0.5, 0.75, 1.0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            grouped(ConstantConf(value=0.5)),
            "groups.1.lr: got 0.1, but groups.1.schedule rises to 0.5: set groups.1.lr=0.5",
        ),
        (
            grouped(ConstantConf(value=0.5), lr=0.7, lr_scale=2.0),
            "got 1.4, but groups.1.schedule rises to 0.5: set groups.1.lr=0.25",
        ),
    ],
)
def test_a_rate_that_the_schedule_of_a_group_ignores_is_a_problem(config: SGD, message: str) -> None:
    with pytest.raises(ValueError, match=r"groups\.1\.lr") as caught:
        resolved(config)
    assert message in str(caught.value)

"""The learning rate that follows from the batch, and what is refused."""

import dataclasses

import pytest
import torch
from torch import nn

from ssltyped.config import build
from ssltyped.config.resolve import resolve
from ssltyped.heads.mlp import MLPHead
from ssltyped.optimizers.adamw import AdamW, AdamWConf
from ssltyped.optimizers.base import GroupedOptimizer, LRScaling, scaled_lr
from ssltyped.optimizers.sgd import SGD, SGDConf
from ssltyped.schedulers.composite import CompositeConf
from ssltyped.schedulers.constant import ConstantConf
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.schedulers.linear import LinearConf
from ssltyped.types import Facts, Scheduler

FACTS = Facts(
    world_size=64, ranks_per_node=8, batch_size=32, accumulation=2, num_views=2, crop_sizes=(8,), feature_dims={}
)


@pytest.mark.parametrize(
    "config, lr, rule",
    [
        (SGDConf(base_lr=0.3), 4.8, "base_lr 0.3 x (4096 images a step / 256) (linear scaling)"),
        (
            SGDConf(base_lr=0.3, lr_scaling=LRScaling.SQRT),
            1.2,
            "base_lr 0.3 x sqrt(4096 images a step / 256) (sqrt scaling)",
        ),
        (
            AdamWConf(base_lr=1e-3, base_batch_size=1024),
            4e-3,
            "base_lr 0.001 x (4096 images a step / 1024) (linear scaling)",
        ),
    ],
)
def test_lr_follows_from_the_images_per_step(config: GroupedOptimizer, lr: float, rule: str) -> None:
    (inference,) = GroupedOptimizer.infer(config, FACTS)
    assert (inference.field, inference.rule) == ("lr", rule)
    assert inference.value == pytest.approx(lr, rel=1e-12)
    assert not list(GroupedOptimizer.problems(config, FACTS))


def test_an_absolute_lr_is_left_alone() -> None:
    assert not list(GroupedOptimizer.infer(SGDConf(lr=0.3), FACTS))
    assert not list(SGD.problems(SGDConf(lr=0.3), FACTS))


def test_scaling_is_exact_at_the_base_batch() -> None:
    for scaling in LRScaling:
        assert scaled_lr(0.3, 256, 256, scaling) == 0.3


@pytest.mark.parametrize(
    "config, paths",
    [
        (SGDConf(), ["lr"]),
        (SGDConf(lr=0.1, base_batch_size=512), ["base_batch_size"]),
        (SGDConf(lr=0.1, lr_scaling=LRScaling.SQRT), ["lr_scaling"]),
    ],
)
def test_problems(config: SGD, paths: list[str]) -> None:
    assert [problem.path for problem in SGD.problems(config, FACTS)] == paths


def test_call_without_lr_is_refused() -> None:
    with pytest.raises(ValueError, match="lr is None"):
        SGD(base_lr=0.3)(nn.Linear(2, 2))


def test_state_dict_keeps_the_groups() -> None:
    layer = nn.Linear(2, 2)
    first, second = SGD(lr=0.1)(layer), SGD(lr=0.1)(layer)
    layer(torch.ones(1, 2)).sum().backward()
    first.step()
    second.load_state_dict(first.state_dict())
    assert second.param_groups[0]["lr_scale"] == 1.0
    assert second.param_groups[0]["name"] == "other.decay"


def test_facts_are_enough_on_one_rank() -> None:
    alone = dataclasses.replace(FACTS, world_size=1, ranks_per_node=1, accumulation=1)
    (inference,) = GroupedOptimizer.infer(SGDConf(base_lr=0.3), alone)
    assert inference.value == pytest.approx(0.3 * 32 / 256)


def schedule_of(config: AdamW) -> Scheduler:
    assert config.weight_decay_schedule is not None
    return config.weight_decay_schedule


def test_a_schedule_of_the_weight_decay_is_inferred_from_it_and_not_from_lr() -> None:
    asked = AdamWConf(lr=0.1, weight_decay=0.4, weight_decay_schedule=CosineConf(end=0.04))
    resolution = resolve(asked, lambda _: dataclasses.replace(FACTS, lr=0.1))
    assert [(row.field, row.value) for row in resolution.rows] == [("weight_decay_schedule.start", 0.4)]
    assert "weight_decay 0.4" in resolution.rows[0].rule
    schedule = schedule_of(build(resolution.config))
    assert schedule(0.0) == pytest.approx(0.4)
    assert schedule(0.5) == pytest.approx(0.22)
    assert not resolve(resolution.config, lambda _: dataclasses.replace(FACTS, lr=0.1)).rows


def test_a_composite_schedule_of_the_weight_decay() -> None:
    parts = CompositeConf(schedulers=[LinearConf(), ConstantConf()], lengths=[0.5, 0.5])
    asked = AdamWConf(lr=0.1, weight_decay=0.4, weight_decay_schedule=parts)
    facts = dataclasses.replace(FACTS, lr=0.1, base_lr_of_one_node=0.05)
    schedule = schedule_of(build(resolve(asked, lambda _: facts).config))
    assert [schedule(p) for p in (0.0, 0.25, 0.75)] == pytest.approx([0.0, 0.2, 0.4])


@pytest.mark.parametrize(
    "config, path",
    [
        (AdamWConf(lr=0.1, weight_decay=0.1, weight_decay_schedule=CosineConf(start=0.04, end=0.4)), "weight_decay"),
        (AdamWConf(lr=0.1, weight_decay=0.0, weight_decay_schedule=ConstantConf(value=0.0)), "weight_decay_schedule"),
    ],
)
def test_a_weight_decay_that_its_schedule_ignores_is_a_problem(config: AdamW, path: str) -> None:
    assert [problem.path for problem in AdamW.problems(config, FACTS)] == [path]


def test_groups_follow_the_schedule_by_their_scale() -> None:
    """What the engine does with wd_scale: heads keep their ratio, undecayed groups stay at 0."""
    model = nn.Sequential(MLPHead(in_dim=3, dims=[3]), nn.LayerNorm(3), nn.Linear(3, 3))
    optimizer = AdamW(lr=0.1, weight_decay=0.4, head_weight_decay=0.1)(model)
    now = {group["name"]: 0.2 * group["wd_scale"] for group in optimizer.param_groups}
    assert now == pytest.approx({"head.decay": 0.05, "other.decay": 0.2, "other.no_decay": 0.0})

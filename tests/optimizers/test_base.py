"""The learning rate that follows from the batch, and what is refused."""

import dataclasses

import pytest
import torch
from torch import nn

from ssltyped.optimizers.adamw import AdamWConf
from ssltyped.optimizers.base import GroupedOptimizer, LRScaling, scaled_lr
from ssltyped.optimizers.sgd import SGD, SGDConf
from ssltyped.types import Facts

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

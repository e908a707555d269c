"""The learning rate that follows from the batch, and what is refused."""

import dataclasses

import pytest

from ssltyped.config import ConfigError, build
from ssltyped.config.resolve import resolve
from ssltyped.optimizers.rate import LRScaling, Rate, RateConf, lr_path, peak_lr, rate_of, scaled_lr
from ssltyped.optimizers.torch_optim import SGD, AdamWConf, SGDConf
from ssltyped.types import Facts

FACTS = Facts(
    world_size=64, ranks_per_node=8, batch_size=32, accumulation=2, num_views=2, crop_sizes=(8,), feature_dims={}
)


@pytest.mark.parametrize(
    "config, lr, rule",
    [
        (RateConf(base_lr=0.3), 4.8, "base_lr 0.3 x (4096 images a step / 256) (linear scaling)"),
        (
            RateConf(base_lr=0.3, lr_scaling=LRScaling.SQRT),
            1.2,
            "base_lr 0.3 x sqrt(4096 images a step / 256) (sqrt scaling)",
        ),
        (
            RateConf(base_lr=1e-3, base_batch_size=1024),
            4e-3,
            "base_lr 0.001 x (4096 images a step / 1024) (linear scaling)",
        ),
    ],
)
def test_lr_follows_from_the_images_per_step(config: Rate, lr: float, rule: str) -> None:
    (inference,) = Rate.infer(config, FACTS)
    assert (inference.field, inference.rule) == ("lr", rule)
    assert inference.value == pytest.approx(lr, rel=1e-12)
    assert not list(Rate.problems(config, FACTS))


def test_an_absolute_lr_is_left_alone() -> None:
    assert not list(Rate.infer(RateConf(lr=0.3), FACTS))
    assert not list(Rate.problems(RateConf(lr=0.3), FACTS))


def test_scaling_is_exact_at_the_base_batch() -> None:
    for scaling in LRScaling:
        assert scaled_lr(0.3, 256, 256, scaling) == 0.3


@pytest.mark.parametrize(
    "config, paths",
    [
        (RateConf(), ["lr"]),
        (RateConf(lr=0.1, base_batch_size=512), ["base_batch_size"]),
        (RateConf(lr=0.1, lr_scaling=LRScaling.SQRT), ["lr_scaling"]),
    ],
)
def test_problems(config: Rate, paths: list[str]) -> None:
    assert [problem.path for problem in Rate.problems(config, FACTS)] == paths


def test_it_is_a_part_of_every_optimizer_which_says_where_it_lacks() -> None:
    with pytest.raises(ConfigError, match=r"^rate\.lr: neither lr nor base_lr is set: give the peak learning rate, or"):
        resolve(SGDConf(), lambda _: FACTS)
    with pytest.raises(ConfigError, match=r"rate\.lr: got 1\.0, but 4\.8 follows from the rest"):
        resolve(SGDConf(rate=RateConf(lr=1.0, base_lr=0.3)), lambda _: FACTS)
    found = resolve(AdamWConf(rate=RateConf(base_lr=0.3)), lambda _: FACTS)
    assert [row.field for row in found.rows] == ["rate.lr"]
    assert build(found.config).rate.lr == pytest.approx(4.8)


def test_facts_are_enough_on_one_rank() -> None:
    alone = dataclasses.replace(FACTS, world_size=1, ranks_per_node=1, accumulation=1)
    (inference,) = Rate.infer(RateConf(base_lr=0.3), alone)
    assert inference.value == pytest.approx(0.3 * 32 / 256)


def test_where_an_optimizer_has_its_rate() -> None:
    ours, own = SGDConf(rate=RateConf(lr=0.3)), RateConf(lr=0.4)
    assert (rate_of(ours), lr_path(ours), peak_lr(ours)) == (ours.rate, "rate.lr", 0.3)
    assert (rate_of(own), lr_path(own), peak_lr(own)) == (own, "lr", 0.4), "a custom one has it itself"
    assert peak_lr(SGDConf()) is None
    assert peak_lr(object()) is None


def test_without_lr_no_optimizer_is_built() -> None:
    with pytest.raises(ValueError, match="Rate cannot be built without lr"):
        Rate(base_lr=0.3)
    with pytest.raises(ConfigError, match=r"rate\.lr: is left to inference"):
        SGD()

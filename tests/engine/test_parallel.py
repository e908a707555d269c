"""Processes and devices: what the environment says, what is inferred, and how gradients and buffers are joined."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from facts import FACTS
from torch import nn

from ssltyped.config import ConfigError
from ssltyped.engine.parallel import (
    Device,
    Distributed,
    DistributedConf,
    Place,
    Rates,
    device_for,
    process_group,
    seed_step,
)

CPU = torch.device("cpu")
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


def test_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert Place.from_environment() == Place(rank=5, world_size=8, local_rank=1, local_world_size=4)


def test_not_started_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert Place.from_environment() is None
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")  # what some clusters set for a single process
    assert Place.from_environment() is None


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"])
def test_half_of_torchruns_variables(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes that each take themselves for alone would write into one folder."""
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigError, match=f"the environment lacks {missing}"):
        Place.from_environment()


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert device_for(Device.AUTO, 3) == CPU
    assert device_for(Device.CPU, 3) == CPU
    with pytest.raises(ValueError, match=r"distributed.device: .*0 are visible"):
        device_for(Device.CUDA, 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_for(Device.AUTO, 1) == torch.device("cuda", 1)
    assert device_for(Device.CPU, 1) == CPU
    with pytest.raises(ValueError, match="process 2 needs a GPU of its own, and 2 are visible"):
        device_for(Device.AUTO, 2)


def test_batch_norm_is_shared_on_a_node() -> None:
    two_nodes = dataclasses.replace(FACTS, world_size=8, ranks_per_node=4)
    (inferred,) = Distributed.infer(DistributedConf(num_procs=4, nodes=2), two_nodes)
    assert (inferred.field, inferred.value) == ("sync_bn_group", 4)
    (alone,) = Distributed.infer(DistributedConf(), FACTS)
    assert (alone.value, alone.rule) == (1, "1 process: nothing to share")
    assert inferred.default, "another number of the user's stands"


@pytest.mark.parametrize(("group", "fine"), [(1, True), (2, True), (4, True), (8, True), (3, False), (16, False)])
def test_groups_that_fit(group: int, fine: bool) -> None:
    facts = dataclasses.replace(FACTS, world_size=8, ranks_per_node=4)
    problems = list(Distributed.problems(Distributed(num_procs=4, nodes=2, sync_bn_group=group), facts))
    assert [problem.path for problem in problems] == ([] if fine else ["sync_bn_group"])


def test_one_process_needs_no_group() -> None:
    with process_group(Place(rank=0, world_size=1, local_rank=0, local_world_size=1), CPU, 60):
        assert not torch.distributed.is_initialized()


def drawn() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def seeded(seed: int, step: int, rank: int) -> tuple[float, float, float]:
    seed_step(seed, step, rank, CPU)
    return drawn()


def test_randomness_is_of_seed_step_and_rank() -> None:
    first = seeded(0, 1, 2)
    drawn()
    assert seeded(0, 1, 2) == first
    for other in [(1, 1, 2), (0, 2, 2), (0, 1, 3), (1, 0, 2), (2, 1, 0)]:
        assert all(a != b for a, b in zip(seeded(*other), first, strict=True)), other


def test_the_group_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the run fails, so that a next run in this process can start."""
    ended: list[bool] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: ended.append(True))
    place = Place(rank=0, world_size=2, local_rank=0, local_world_size=2)
    with pytest.raises(RuntimeError, match="in the run"), process_group(place, CPU, 60):
        raise RuntimeError("in the run")
    assert ended == [True]


def groups() -> torch.optim.Optimizer:
    """Two groups with multiples of their own, as the optimizers of a recipe have them."""
    parameters = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    scales = [{"lr_scale": 1.0, "wd_scale": 1.0}, {"lr_scale": 0.1, "wd_scale": 0.0}]
    return torch.optim.SGD(
        [{"params": [p], **s, "weight_decay": 0.5} for p, s in zip(parameters, scales, strict=True)], lr=9.0
    )


def test_rates_are_multiples_of_the_schedules() -> None:
    optimizer = groups()
    Rates(lr=0.2, weight_decay=0.04).set(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.02])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.04, 0.0]


def test_a_group_with_a_schedule_of_its_own_follows_it() -> None:
    optimizer = groups()
    for group, schedule in zip(optimizer.param_groups, ["", "loss.predictor"], strict=True):
        group["schedule"] = schedule
    rates = Rates(lr=0.2, weight_decay=0.04, own={"loss.predictor": 3.0})
    rates.set(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.3])
    assert rates.logs == {"lr": 0.2, "lr.loss.predictor": 3.0, "weight_decay": 0.04}
    assert Rates(lr=0.2).logs == {"lr": 0.2}


def test_without_a_schedule_the_weight_decay_stays() -> None:
    optimizer = groups()
    Rates(lr=0.2).set(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.02])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.5]
    Rates(lr=0.0, weight_decay=0.0).set(optimizer)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.0], "0 is a value"

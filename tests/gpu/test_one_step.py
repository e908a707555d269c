"""Every method on a card, in each precision, against the CPU in float32; and that the comparison can fail."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from gpu.one_step import CPU, Stepped, apart, begun, stepped, without_tf32
from other_methods import EVERY

from ssltyped.engine.parallel import Precision
from ssltyped.experiment import Experiment
from ssltyped.losses.moco import MoCoLoss
from ssltyped.types import Batch, Carry, Model, Moment, StepOutput

HALVES = [Precision.BF16, Precision.FP16]
Step = Callable[[MoCoLoss, Model, Batch, Moment], StepOutput]


class Reference(NamedTuple):
    """Where a method is before the step, and what the CPU makes of it in float32."""

    name: str
    asked: Experiment
    checkpoint: Path
    wanted: Stepped


def reference(name: str, folder: Path) -> Reference:
    asked, checkpoint = begun(EVERY[name], folder / name)
    return Reference(name, asked, checkpoint, stepped(asked, checkpoint, CPU, Precision.FP32, folder / f"{name}_cpu"))


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reference]:
    """The reference of a method, made once."""
    return functools.cache(lambda name: reference(name, tmp_path_factory.mktemp(name)))


@pytest.fixture
def moco(begin: Callable[[str], Reference]) -> Reference:
    return begin("moco")


def complaints(start: Reference, device: torch.device, precisions: Sequence[Precision], folder: Path) -> list[str]:
    """What is wrong with one step of a method."""
    found = []
    for precision in precisions:
        try:
            with without_tf32():
                made = stepped(start.asked, start.checkpoint, device, precision, folder / precision.value)
            wrong = list(apart(made, start.wanted, precision))
        except (RuntimeError, ValueError, AssertionError) as error:  # the other methods have their turn too
            wrong = [f"{type(error).__name__}: {error}"]
        found += [f"{start.name} in {precision.value}: {line}" for line in wrong]
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("precision", Precision)
def test_a_card_does_what_the_cpu_does(precision: Precision, begin: Callable[[str], Reference], tmp_path: Path) -> None:
    card, found = torch.device("cuda", 0), list[str]()
    for name in EVERY:
        (folder := tmp_path / name).mkdir()
        found += complaints(begin(name), card, [precision], folder)
    assert found == []


@pytest.mark.parametrize("name", ["swav", *(pytest.param(name, marks=pytest.mark.slow) for name in EVERY)])
def test_the_halves_of_the_cpu_are_near_enough(name: str, begin: Callable[[str], Reference], tmp_path: Path) -> None:
    assert complaints(begin(name), CPU, list(Precision), tmp_path) == []


def overflows(step: Step) -> Step:
    """Products of 70,000 in fp16."""

    def half(loss: MoCoLoss, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        output = step(loss, model, batch, moment)
        return dataclasses.replace(output, loss=output.loss * (output.loss.detach().half() * 70_000 / 70_000).float())

    return half


def forgets_a_view(step: Step) -> Step:
    def half(loss: MoCoLoss, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        return step(loss, model, dataclasses.replace(batch, views=(batch.views[1], batch.views[1])), moment)

    return half


def is_a_tenth_too_large(step: Step) -> Step:
    def half(loss: MoCoLoss, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        output = step(loss, model, batch, moment)
        return dataclasses.replace(output, loss=output.loss + 0.1 * output.loss.detach())

    return half


@pytest.mark.parametrize("sabotage", [overflows, forgets_a_view, is_a_tenth_too_large])
def test_a_step_that_is_wrong_in_one_precision_is_found(
    sabotage: Callable[[Step], Step], moco: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = MoCoLoss.step

    def step(loss: MoCoLoss, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.float16
        return (sabotage(right) if half else right)(loss, model, batch, moment)

    monkeypatch.setattr(MoCoLoss, "step", step)
    found = complaints(moco, CPU, HALVES, tmp_path)
    assert found
    assert all("fp16" in line for line in found)


def test_an_update_that_is_left_out_is_found(moco: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is all that the method's own state shows: loss, gradient and parameters are as they should be."""
    step, half = MoCoLoss.step, list[bool]()

    def noted(loss: MoCoLoss, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        half[:] = [torch.is_autocast_enabled("cpu")]
        return step(loss, model, batch, moment)

    update = MoCoLoss.update

    def in_full_precision(loss: MoCoLoss, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        if not half[0]:
            update(loss, model, carries, moment)

    monkeypatch.setattr(MoCoLoss, "step", noted)
    monkeypatch.setattr(MoCoLoss, "update", in_full_precision)
    lines = [line.split(":")[1] for line in complaints(moco, CPU, list(Precision), tmp_path)]
    assert lines == [" the method's state"] * 2

"""A run is told when its loss leaves its range, or stays where outputs say nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny import tiny

from ssltyped.config import config_for
from ssltyped.engine.loss_watch import LossWatch
from ssltyped.launch import launch
from ssltyped.types import Batch, Loss, LossRange, Model, Moment, StepOutput

KNOWN = LossRange(highest=9.0, uniform=5.0, remedy="do less")


Capture = pytest.CaptureFixture[str]


def said(losses: list[float], known: LossRange | None, capsys: Capture, steps: int = 100) -> list[str]:
    watch = LossWatch()
    for step, loss in enumerate(losses, 1):
        watch(loss, known, step, steps)
    return capsys.readouterr().out.splitlines()


def test_a_loss_outside_of_its_range_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = said([5.5, 983.0, 990.0], KNOWN, capsys)
    assert line.startswith("warning: the loss of step 2 is 983, outside of 0 to 9, where this method's lies: do less")
    (line,) = said([0.5, -3.0], KNOWN, capsys)
    assert "step 2 is -3, outside of 0 to 9" in line


@pytest.mark.parametrize("losses", [[9.0, 9.05, 0.0, -0.005], [math.nan], []])
def test_what_is_within_or_no_number_is_not(losses: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert not said(losses, KNOWN, capsys)
    assert not said([1e9] * 50, None, capsys)
    assert not said([1e9, -1e9], LossRange(lowest=-math.inf), capsys)


def test_a_loss_that_stays_at_uniform_outputs_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = said([5.5, *[5.01] * 60], KNOWN, capsys)
    assert line.startswith("warning: from step 2 to 22 the loss stays at 5, that of outputs which are the same for ")


@pytest.mark.parametrize("losses", [[5.0] * 19, [*[5.0] * 15, 4.0] * 3, [5.2] * 60])
def test_a_while_there_is_nothing_unusual(losses: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert not said(losses, KNOWN, capsys)


def test_few_values_say_little(capsys: pytest.CaptureFixture[str]) -> None:
    assert not said([5.0] * 9, KNOWN, capsys, steps=9)
    assert said([5.0] * 10, KNOWN, capsys, steps=10)


class Collapsed(Loss):
    """Learns nothing.

    Args:
        head: that is read.
    """

    def __init__(self, *, head: str = "projector") -> None:
        super().__init__()
        self.head = head

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        z = model(batch.views, heads=[self.head]).of(self.head)
        return StepOutput(loss=0 * z.sum() + math.log(7), expected=LossRange(uniform=math.log(7)))


CollapsedConf = config_for(Collapsed)


def test_a_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = launch(tiny(output=tmp_path, steps=12, loss=CollapsedConf()))
    assert run.metrics["loss"] == pytest.approx(math.log(7))
    assert "the loss stays at 1.946, that of outputs" in capsys.readouterr().out
    assert torch.isfinite(torch.tensor(run.metrics["loss"]))

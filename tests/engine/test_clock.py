"""Images a second: waited for where it is read, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import tiny, tiny_trainer

from ssltyped.engine import clock
from ssltyped.engine.clock import Clock
from ssltyped.types import Batch, Callback, TrainState


class Device:
    """A device that takes 2 seconds a step, beside the host's half."""

    def __init__(self) -> None:
        self.now, self.queued, self.waits = 100.0, 0.0, 0

    def step(self) -> None:
        self.now += 0.5
        self.queued = max(self.queued, self.now) + 2.0

    def wait(self, device: torch.device) -> None:
        self.now, self.waits = max(self.now, self.queued), self.waits + 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_device_is_waited_for_where_it_is_read(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Device()
    monkeypatch.setattr(clock.time, "perf_counter", lambda: queue.now)
    monkeypatch.setattr(torch.cuda, "synchronize", queue.wait)
    one = Clock(torch.device(device))
    for step in range(1, 5):
        one.start()
        queue.step()
        one.stop(8, wait=step == 4)
    # Four steps: the device starts after half a second and takes 2 s for each; the host alone would say 2 s in all.
    assert one.images_per_s() == pytest.approx(32 / (8.5 if device == "cuda" else 2.0))
    assert queue.waits == (device == "cuda")


def test_a_pause_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Device()
    monkeypatch.setattr(clock.time, "perf_counter", lambda: queue.now)
    one = Clock(torch.device("cpu"))
    one.start()
    queue.now += 1.0
    with one.paused():
        queue.now += 50.0
    queue.now += 3.0
    one.stop(8, wait=True)
    assert one.images_per_s() == pytest.approx(2.0)


class Slow(Callback):
    """An evaluation before the first step that takes 1,000 s of a clock that ticks when it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        self.now += 1.0
        return self.now

    def on_step_start(self, state: TrainState, batch: Batch) -> None:
        if state.step == 0:
            self.now += 1000.0


def test_an_evaluation_before_a_step_is_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr(clock.time, "perf_counter", slow.read)
    trainer = tiny_trainer(tiny(steps=1), tmp_path)
    trainer._callbacks = [slow]
    trainer.fit()
    assert slow.now > 1000
    assert trainer.metrics["images_per_s"] > 8 / 100, "8 images in a few ticks"


def test_what_comes_in_between_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Device()
    monkeypatch.setattr(clock.time, "perf_counter", lambda: queue.now)
    one = Clock(torch.device("cpu"))
    for _ in range(2):
        one.start()
        queue.now += 1.0
        one.stop(4, wait=True)
        queue.now += 50.0
    assert one.images_per_s() == pytest.approx(4.0)
    one.start()
    queue.now += 2.0
    one.stop(4, wait=True)
    assert one.images_per_s() == pytest.approx(2.0), "from the last time on"

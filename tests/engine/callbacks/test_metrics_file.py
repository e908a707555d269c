"""Metrics as JSON lines: every step once, also after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from watched import Watched

from ssltyped.engine.callbacks.metrics_file import MetricsFile


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def train(folder: Path, start: int, end: int) -> None:
    """A start at step `start` that is killed after step `end`."""
    file, state = MetricsFile(), Watched(folder=folder, step=start)
    file.on_train_start(state)
    if start == 0:
        file.on_metrics(state, {"knn_top1": 12.5})
    for step in range(start + 1, end + 1):
        state.step = step
        file.on_metrics(state, {"loss": 1.0 / step})


def test_a_line_a_call(tmp_path: Path) -> None:
    train(tmp_path, 0, 4)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0] == {"step": 0, "epoch": 1, "images": 0, "knn_top1": 12.5}
    assert rows[3] == {"step": 3, "epoch": 1, "images": 24, "loss": 1 / 3}
    assert rows[4] == {"step": 4, "epoch": 2, "images": 32, "loss": 0.25}


@pytest.mark.parametrize(("start", "done"), [(0, 4), (2, 4), (3, 3), (4, 4)])
def test_every_step_once_after_a_resume(start: int, done: int, tmp_path: Path) -> None:
    """Killed after step `done`, it goes on from the checkpoint of step `start` (0: there was none)."""
    train(tmp_path, 0, done)
    train(tmp_path, start, 6)
    assert steps(tmp_path / "metrics.jsonl") == [0, 1, 2, 3, 4, 5, 6]


def test_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    train(tmp_path, 0, 3)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "lo')
    train(tmp_path, 3, 6)
    assert steps(path) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("line", ["", "[1]", "null", '{"loss": 1}', '{"step": "x"}'])
def test_what_is_no_row_is_dropped(line: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + line + "\n")
    MetricsFile().on_train_start(Watched(folder=tmp_path, step=3))
    assert path.read_text() == '{"step": 1}\n'


def test_a_name_of_its_own(tmp_path: Path) -> None:
    file = MetricsFile(file_name="mine.jsonl")
    file.on_metrics(Watched(folder=tmp_path, step=1), {"loss": 1.0})
    assert steps(tmp_path / "mine.jsonl") == [1]


def test_steps_of_another_batch_are_told_apart_by_their_images(tmp_path: Path) -> None:
    """Four steps of 8 images are two of 16: none of them is dropped, though their numbers are higher."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}, "images": {8 * step}}}\n' for step in range(1, 6)))
    MetricsFile().on_train_start(Watched(folder=tmp_path, step=4))
    assert steps(path) == [1, 2, 3, 4]

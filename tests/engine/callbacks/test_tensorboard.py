"""What TensorBoard reads from the files."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from watched import Watched

from ssltyped.engine.callbacks.tensorboard import TensorBoard


@pytest.fixture(autouse=True)
def _few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of one second are told apart by a number, and read by their names: 10 would come before 9."""
    numbers = itertools.count()
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer._global_uid.get", lambda: next(numbers))


def train(folder: Path, start: int, end: int, value: float, batch: int = 8) -> None:
    board, state = TensorBoard(), Watched(folder=folder, step=start, batch=batch)
    board.on_train_start(state)
    if start == 0:
        board.on_metrics(state, {"knn_top1": value})
    for step in range(start + 1, end + 1):
        state.step = step
        board.on_metrics(state, {"loss": value / step, "lr": 0.5})
    board.on_train_end(state)


def shown(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of a run: images and value of each point."""
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(name)]


def rounded(value: float) -> float:
    """As the file holds it, in float32."""
    return float(np.float32(value))


def test_values(tmp_path: Path) -> None:
    train(tmp_path, 0, 3, value=6.0)
    (file,) = (tmp_path / "tensorboard").iterdir()
    rows = [
        (event.step, {value.tag: value.tensor.float_val[0] for value in event.summary.value})
        for event in EventFileLoader(str(file)).Load()
        if event.HasField("summary")
    ]
    wanted = [{"knn_top1": 6.0}, *({"loss": 6.0 / step, "lr": 0.5} for step in (1, 2, 3))]
    assert [images for images, _ in rows] == [0, 8, 16, 24]
    assert [row for _, row in rows] == [pytest.approx(row) for row in wanted]


@pytest.mark.parametrize(("start", "done"), [(2, 4), (4, 4), (0, 4)])
def test_after_a_resume_every_step_is_shown_once(start: int, done: int, tmp_path: Path) -> None:
    train(tmp_path, 0, done, value=6.0)
    train(tmp_path, start, 6, value=12.0)
    kept = [(8 * step, 6.0 / step) for step in range(1, start + 1)]
    again = [(8 * step, 12.0 / step) for step in range(start + 1, 7)]
    assert shown(tmp_path, "loss") == [(images, rounded(value)) for images, value in [*kept, *again]]
    assert len(shown(tmp_path, "knn_top1")) == 1


@pytest.mark.parametrize("batch", [16, 4])
def test_another_batch_goes_on_at_the_same_image(batch: int, tmp_path: Path) -> None:
    """After four steps of 8 images, from 32 images on in steps of `batch`; what was done after that is done again."""
    train(tmp_path, 0, 6, value=6.0)
    train(tmp_path, 32 // batch, 64 // batch, value=12.0, batch=batch)
    before = [(8 * step, 6.0 / step) for step in range(1, 5)]
    after = [(batch * step, 12.0 / step) for step in range(32 // batch + 1, 64 // batch + 1)]
    assert shown(tmp_path, "loss") == [(images, rounded(value)) for images, value in [*before, *after]]


def test_ending_without_a_start(tmp_path: Path) -> None:
    """A run that fails before it starts ends its callbacks all the same."""
    TensorBoard().on_train_end(Watched(folder=tmp_path))
    assert not (tmp_path / "tensorboard").exists()

"""Progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import watched
from watched import Watched

from ssltyped.engine.callbacks.progress import ProgressBar

ON_TERMINAL = """
import sys
from pathlib import Path
from watched import Watched
from ssltyped.engine.callbacks.progress import ProgressBar

bar, state = ProgressBar(width=20), Watched(folder=Path())
bar.on_train_start(state)
for step in range(1, 7):
    state.step = step
    bar.on_step_end(state)
    bar.on_metrics(state, {"loss": 1.0 / step})
bar.on_train_end(state)
print("after")
"""


def test_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a call: epoch and step as a person counts, four digits, the time left while there is some."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar, state = ProgressBar(), Watched(folder=tmp_path, step=2)
    bar.on_train_start(state)
    for step in (3, 4, 6):
        now[0] = 100.0 + 4000.0 * (step - 2)
        state.step = step
        bar.on_step_end(state)
        bar.on_metrics(state, {"loss": 1.23456, "lr": 0.1})
    bar.on_train_end(state)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1  step 3/6  loss 1.235  lr 0.1  left 3:20:00",
        "epoch 2  step 4/6  loss 1.235  lr 0.1  left 2:13:20",
        "epoch 2  step 6/6  loss 1.235  lr 0.1",
    ]


def test_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bar, state = ProgressBar(), Watched(folder=tmp_path)
    bar.on_train_start(state)
    bar.on_metrics(state, {"knn_top1": 10.0, "watch_feature_rank": 3.0})
    bar.on_metrics(state, {"watch_feature_rank": 3.0})
    assert capsys.readouterr().out == "epoch 1  step 0/6  knn_top1 10\n"


def test_bar_on_a_terminal() -> None:
    """It counts to the end, shows the newest metrics, and gives the terminal back."""
    ours, theirs = pty.openpty()
    tests = str(Path(watched.__file__).parent)
    environment = {
        **os.environ,
        "PYTHONPATH": tests,
        "TERM": "xterm-256color",
        "COLUMNS": "120",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen([sys.executable, "-c", ON_TERMINAL], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    pieces: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(ours, 4096):
                pieces.append(piece)
        except OSError:  # the other side is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(timeout=60) == 0
    reader.join(timeout=10)
    os.close(ours)
    raw = b"".join(pieces).decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)
    assert "6/6" in text
    assert "loss 0.1667" in text
    assert "━" * 20 in text
    assert "epoch 1  step" not in text, "no plain lines on a terminal"
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l"), "the cursor is shown again"
    assert "after" in text.splitlines()[-1]

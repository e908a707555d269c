"""Killed at random moments and started again, a run ends with bitwise the same weights as one that was not."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

STEPS = 40
COMMAND = [
    sys.executable, "-u", "-m", "ssltyped.run", "recipes.quickstart", "resume=auto", f"steps={STEPS}", "epochs=null",
    "data.train.views.transforms.0.size=16", "data.train.batch_size=64", "checkpoints.every_steps=1", "log_every=1",
    "callbacks=[ProgressBar,MetricsFile,NaNGuard]",
]  # fmt: skip


def start(folder: Path, name: str, *overrides: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*COMMAND, f"output={folder}", f"name={name}", *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out[-2000:] + err[-4000:]


def sha256(folder: Path) -> str:
    """Over every tensor of model, loss and optimizer in the last checkpoint, and over the exported weights."""
    digest = hashlib.sha256()
    state = torch.load(folder / "checkpoints" / f"step_{STEPS:08d}" / "state.pt", weights_only=True)
    moments = [value for _, entry in sorted(state["optimizer"]["state"].items()) for value in entry.values()]
    weights = torch.load(folder / "weights.pt", weights_only=True)
    for tensor in [*state["module"].values(), *moments, *weights.values()]:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def kill_some_time(process: subprocess.Popen[str], moment: random.Random) -> bool:
    """SIGKILL at a random moment: now and then while starting, else in training. False if it had ended before."""
    if moment.random() < 0.15:
        time.sleep(moment.uniform(0.2, 3.0))
    else:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        time.sleep(moment.uniform(0.0, 0.2))
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def killed_and_resumed(folder: Path, kills: int, workers: int) -> None:
    finish(start(folder, "whole", f"data.train.num_workers={workers}"))
    moment = random.Random(kills + workers)
    for _ in range(kills):
        assert kill_some_time(start(folder, "killed", f"data.train.num_workers={workers}"), moment), "it ended too soon"
    finish(start(folder, "killed", f"data.train.num_workers={workers}"))
    assert sha256(folder / "killed") == sha256(folder / "whole")
    lines = (folder / "killed" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == STEPS, "each step stands once in the metrics"


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_twice(tmp_path: Path, workers: int) -> None:
    killed_and_resumed(tmp_path, kills=2, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_ten_times(tmp_path: Path, workers: int) -> None:
    killed_and_resumed(tmp_path, kills=10, workers=workers)


def test_other_workers_after_a_kill(tmp_path: Path) -> None:
    """The number of worker processes is no part of what a run computes."""
    finish(start(tmp_path, "whole", "data.train.num_workers=0"))
    assert kill_some_time(start(tmp_path, "killed", "data.train.num_workers=2"), random.Random(1))
    finish(start(tmp_path, "killed", "data.train.num_workers=1"))
    assert sha256(tmp_path / "killed") == sha256(tmp_path / "whole")

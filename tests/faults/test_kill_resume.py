"""Killed at random moments and started again, a run ends with bitwise the same weights as one that was not."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from ssltyped.run import main

STEPS = 40
RECIPE = [
    "recipes.quickstart", "resume=auto", f"steps={STEPS}", "epochs=null",
    "data.train.views.transforms.0.size=16", "data.train.batch_size=32", "trunk.width_multiplier=0.125",
    "checkpoints.every_steps=1", "log_every=1",
    "callbacks=[ProgressBar,MetricsFile,NaNGuard]",
]  # fmt: skip


def into(folder: Path, name: str) -> list[str]:
    return [f"output={folder}", f"name={name}"]


def start(folder: Path, name: str, *overrides: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-u", "-m", "ssltyped.run", *RECIPE, *into(folder, name), *overrides]
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


def killed_and_resumed(folder: Path, workers: Sequence[int]) -> None:
    """A run for each number of workers, all of which but the last are killed, is the run that was not."""
    assert main([*RECIPE, *into(folder, "whole"), "data.train.num_workers=0"]) == 0
    moment = random.Random(len(workers))
    for number in workers[:-1]:
        killed = start(folder, "killed", f"data.train.num_workers={number}")
        assert kill_some_time(killed, moment), "it ended too soon"
    finish(start(folder, "killed", f"data.train.num_workers={workers[-1]}"))
    assert sha256(folder / "killed") == sha256(folder / "whole")
    lines = (folder / "killed" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == STEPS, "each step stands once in the metrics"


def test_killed(tmp_path: Path) -> None:
    """The number of worker processes is no part of what a run computes."""
    killed_and_resumed(tmp_path, workers=[2, 1])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_ten_times(tmp_path: Path, workers: int) -> None:
    killed_and_resumed(tmp_path, workers=[workers] * 11)

"""Every method from end to end: planned, run for 4 steps of 3 an epoch, and stopped in the middle."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from methods import METHODS
from stops import StopConf
from tiny import TORCHRUN, sha256

from ssltyped.config import replaced
from ssltyped.engine.trainer import Outcome
from ssltyped.launch import launch
from ssltyped.plan import plan


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def state(folder: Path) -> dict[str, object]:
    """All that the checkpoint of the last step says of model, method and optimizer: tensors and numbers, by path."""
    saved = torch.load(folder / "checkpoints" / "step_00000004" / "state.pt", weights_only=True)
    return dict(leaves("", {name: saved[name] for name in ("module", "optimizer", "step")}))


def leaves(path: str, tree: object) -> Iterator[tuple[str, object]]:
    if isinstance(tree, dict | list):
        for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(f"{path}/{key}", item)
    else:
        yield path, tree


def equal(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b


@pytest.mark.parametrize("name", METHODS)
def test_stopped_and_gone_on_is_straight(name: str, tmp_path: Path) -> None:
    """Bitwise, with all that a method keeps: queues, banks, teachers, centres, counters."""
    asked = METHODS[name]
    whole = launch(replaced(asked, {"output": tmp_path / "whole"}), name=name)
    assert whole.outcome is Outcome.FINISHED
    assert math.isfinite(whole.metrics["loss"])
    cut = replaced(asked, {"output": tmp_path / "cut", "callbacks": [StopConf(at=2, number=signal.SIGTERM)]})
    assert launch(cut, name=name).outcome is Outcome.INTERRUPTED
    again = launch(cut, name=name)
    assert again.outcome is Outcome.FINISHED
    assert sha256(again.folder / "weights.pt") == sha256(whole.folder / "weights.pt")
    wanted, got = state(whole.folder), state(again.folder)
    assert wanted.keys() == got.keys()
    assert not [key for key in wanted if not equal(wanted[key], got[key])]
    assert any(key.startswith("/module/loss.") for key in wanted) is (name not in STATELESS)


STATELESS = {"multicrop_simclr", "barlow_twins", "jigsaw", "rotnet"}
"""Methods that keep nothing beside the model."""


@pytest.mark.parametrize("name", METHODS)
def test_plan(name: str) -> None:
    """Every method can be planned, and nothing of it is left to infer."""
    text = plan(METHODS[name], name)
    assert "8 images a step, 3 steps an epoch, 4 steps" in text
    assert "activations" in text

"""Weights say what they are, wherever they go."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import SIZE, TORCHRUN, tiny

from ssltyped import launch
from ssltyped.weights.pretrained import pretrained


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def test_weights_say_what_they_are_wherever_they_go(tmp_path: Path) -> None:
    run = launch(tiny(output=tmp_path / "runs", steps=1))
    (tmp_path / "elsewhere").mkdir()
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    moved = (run.folder / "weights.pt").rename(tmp_path / "elsewhere" / "mine.pt")
    at_home, found = pretrained(checkpoint), pretrained(moved)
    assert (found.trunk, found.heads, found.mean, found.std) == (
        at_home.trunk,
        at_home.heads,
        at_home.mean,
        at_home.std,
    )
    assert found.image_size == SIZE
    assert not found.assumed

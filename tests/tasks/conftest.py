"""One run for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from measured import run_in
from tiny import TORCHRUN


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    return run_in(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)

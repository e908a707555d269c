"""A recipe with everything inferred; what may be unwise is an error for those who want that."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import tiny

from ssltyped import launch
from ssltyped.config import ConfigError
from ssltyped.experiment import Experiment
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.resolution import resolve_experiment
from ssltyped.run import main


def unwise(folder: Path = Path("runs")) -> Experiment:
    """More keys than images, of an encoder that hardly moves."""
    return tiny(output=folder, loss=MoCoLossConf(queue_size=4800, momentum=0.9999))


def test_warnings_name_what_would_suit() -> None:
    warnings = {one.path: one.message for one in resolve_experiment(unwise()).warnings}
    assert warnings["loss.queue_size"] == "4,800 keys in the queue for 24 images: about 6 suit so few"
    assert "about 0.464 leaves 1 %" in warnings["loss.momentum"], "0.01^(1/6)"


def test_they_are_errors_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        launch(unwise(tmp_path), strict=True)
    assert [problem.path for problem in caught.value.problems] == ["loss.queue_size", "loss.momentum"]
    line = ["tiny", "loss=MoCoLoss", "loss.queue_size=4800", f"output={tmp_path}"]
    for command in (["--plan", "--strict"], ["--strict"], ["--multirun", "seed=0,1", "--strict"]):
        assert main([*line, *command]) == 2
        assert "4,800 keys in the queue for 24 images" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*line, "--plan"]) == 0

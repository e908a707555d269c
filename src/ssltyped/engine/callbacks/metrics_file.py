"""Metrics as JSON lines: one object a logged step, for plots and tables."""

import json
from collections.abc import Mapping

from ssltyped.config import config_for
from ssltyped.model.files import write_text
from ssltyped.types import Callback, TrainState


class MetricsFile(Callback):
    """Appends `{"step": 10, "epoch": 1, "loss": 5.1, ...}` to a file in the run's folder.

    After a resume the lines of steps that are done again are dropped first, so that no step stands there twice.

    Args:
        file_name: name of the file in the run's folder.
    """

    def __init__(self, *, file_name: str = "metrics.jsonl") -> None:
        self.file_name = file_name

    def on_train_start(self, state: TrainState) -> None:
        path = state.folder / self.file_name
        if not path.exists():
            return
        # A run that starts at the beginning evaluates step 0 again.
        kept = [line for line in path.read_text().splitlines() if state.step and _step_of(line) <= state.step]
        write_text(path, "".join(f"{line}\n" for line in kept))

    def on_metrics(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        row = {"step": state.step, "epoch": max(state.step - 1, 0) // state.steps_per_epoch + 1, **metrics}
        with (state.folder / self.file_name).open("a") as file:
            file.write(json.dumps(row) + "\n")


def _step_of(line: str) -> float:
    """The step of a line; a line that a kill cut short counts as later than any."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


MetricsFileConf = config_for(MetricsFile)

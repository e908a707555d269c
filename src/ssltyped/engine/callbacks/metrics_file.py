"""Metrics as JSON lines: one object a logged step, for plots and tables."""

import json
from collections.abc import Mapping

from ssltyped.config import config_for
from ssltyped.model.files import write_text
from ssltyped.types import Callback, TrainState


class MetricsFile(Callback):
    """Appends `{"step": 10, "epoch": 1, "images": 640, "loss": 5.1, ...}` to a file in the run's folder.

    `images` is how far the run is, in images: steps of another batch have other numbers. After a resume the lines of
    steps that are done again are dropped first, so that none stands there twice.

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
        kept = [line for line in path.read_text().splitlines() if state.step and _is_done(line, state)]
        write_text(path, "".join(f"{line}\n" for line in kept))

    def on_metrics(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        epoch = max(state.step - 1, 0) // state.steps_per_epoch + 1
        row = {"step": state.step, "epoch": epoch, "images": state.images, **metrics}
        with (state.folder / self.file_name).open("a") as file:
            file.write(json.dumps(row) + "\n")


def _is_done(line: str, state: TrainState) -> bool:
    """Whether a line is of what is not done again; not one that a kill cut short."""
    try:
        row = json.loads(line)
        return bool(row["images"] <= state.images if "images" in row else row["step"] <= state.step)
    except (ValueError, KeyError, TypeError):
        return False


MetricsFileConf = config_for(MetricsFile)

"""Progress: a bar on a terminal, plain lines elsewhere (a log file, a batch system)."""

import sys
import time
from collections.abc import Mapping
from typing import Annotated, Optional

from annotated_types import Gt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ssltyped.config import config_for
from ssltyped.engine.parallel import tell
from ssltyped.types import Callback, TrainState, metrics_text


class ProgressBar(Callback):
    """Shows steps, time left and the newest metrics; one line per logged step where there is no terminal.

    Args:
        width: columns of the bar on a terminal.
    """

    def __init__(self, *, width: Annotated[int, Gt(0)] = 30) -> None:
        self.width = width
        self._bar: Optional[Progress] = None
        self._task = TaskID(0)
        self._started, self._first = 0.0, 0

    def on_train_start(self, state: TrainState) -> None:
        self._started, self._first = time.monotonic(), state.step
        if not sys.stdout.isatty():
            return
        columns = (BarColumn(self.width), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=Console())
        self._task = self._bar.add_task("", total=state.steps, completed=state.step)
        self._bar.start()

    def on_step_end(self, state: TrainState) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=state.step)

    def on_metrics(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        if not (text := metrics_text(metrics)):
            return
        if self._bar is not None:
            self._bar.update(self._task, description=text)
            return
        tell(f"epoch {epoch_of(state)}  step {state.step}/{state.steps}  {text}{self._time_left(state)}")

    def on_train_end(self, state: TrainState) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _time_left(self, state: TrainState) -> str:
        done = state.step - self._first
        if not done or state.step >= state.steps:
            return ""
        seconds = int((time.monotonic() - self._started) / done * (state.steps - state.step))
        return f"  left {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def epoch_of(state: TrainState) -> int:
    """The epoch (from 1) of the last step done, as a person counts."""
    return max(state.step - 1, 0) // state.steps_per_epoch + 1


ProgressBarConf = config_for(ProgressBar)

"""A callback that stops a run, as Ctrl-C or a cluster does."""

from __future__ import annotations

import signal

from ssltyped.config import config_for
from ssltyped.types import Callback, TrainState


class Stop(Callback):
    """Raises a signal after a step.

    Args:
        at: the step.
        number: the signal.
    """

    def __init__(self, *, at: int, number: int = signal.SIGTERM) -> None:
        self.at, self.number = at, number

    def on_step_end(self, state: TrainState) -> None:
        if state.step == self.at:
            signal.raise_signal(self.number)


StopConf = config_for(Stop)

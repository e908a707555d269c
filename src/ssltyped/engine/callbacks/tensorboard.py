"""Metrics for TensorBoard."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

from ssltyped.config import config_for
from ssltyped.types import Callback, TrainState

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter


class TensorBoard(Callback):
    """Writes every metric as a scalar: `tensorboard --logdir runs`.

    The axis that TensorBoard calls step is in images, `images` of `metrics.jsonl`: after a resume with another batch,
    steps have other numbers.

    Args:
        folder_name: name of the folder of event files in the run's folder.
    """

    def __init__(self, *, folder_name: str = "tensorboard") -> None:
        self.folder_name = folder_name
        self._writer: Optional[EventFileWriter] = None

    def on_train_start(self, state: TrainState) -> None:
        # tensorboard's own writer: torch's SummaryWriter costs seconds of import for the same file
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(state.folder / self.folder_name))
        # What an earlier start wrote past the checkpoint that we go on from is not shown twice.
        restart, first = SessionLog(status=SessionLog.START), state.images + 1 if state.step else 0
        self._writer.add_event(Event(step=first, wall_time=time.time(), session_log=restart))

    def on_metrics(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._writer is not None:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
            self._writer.add_event(Event(step=state.images, wall_time=time.time(), summary=Summary(value=values)))

    def on_train_end(self, state: TrainState) -> None:
        if self._writer is not None:
            self._writer.close()


TensorBoardConf = config_for(TensorBoard)

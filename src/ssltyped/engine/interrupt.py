"""Stopping a run in the middle without losing anything."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import FrameType
from typing import Optional

import torch
from torch import Tensor

from ssltyped import distributed

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Of whoever ends a job, of the keyboard, and of a terminal that is closed."""


@contextmanager
def handled_by(handler: Callable[[int, Optional[FrameType]], None]) -> Iterator[None]:
    """Within the block `SIGNALS` go there. They reach the main thread; in another one nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in SIGNALS if _listened_to(number)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


class Verdict(Enum):
    """What all ranks do after a step."""

    GO_ON = 0
    STOP = 1
    FAILED = 2


def _listened_to(number: signal.Signals) -> bool:
    """`nohup` starts a command that is not to hear of a terminal that is closed."""
    return number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN


def end_once(number: int, frame: Optional[FrameType]) -> None:
    """A handler that raises KeyboardInterrupt at the first Ctrl-C and hears no other, however long the key is held."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


class Interrupt:
    """SIGTERM, SIGHUP or Ctrl-C: the step in progress ends, all ranks agree to stop, state is saved.

    A second Ctrl-C aborts; more of them, as from a key that is held, do not disturb what ends then.
    """

    def __init__(self) -> None:
        self._requested, self._keyboard, self._aborted = False, False, False
        self._pending: Optional[tuple[torch.distributed.Work, Tensor]] = None

    def note(self, number: int, frame: Optional[FrameType]) -> None:
        # A Ctrl-C reaches a rank twice: from the terminal, and as the SIGTERM of whoever started it, in any order.
        if self._keyboard and number == signal.SIGINT:
            if self._aborted:
                return
            self._aborted = True
            raise KeyboardInterrupt
        self._requested, self._keyboard = True, self._keyboard or number == signal.SIGINT

    def settle(self) -> None:
        """Wait for the answer that is still under way when the last step is done (collective)."""
        if self._pending is not None:
            self._pending[0].wait()
            self._pending = None

    def agreed(self, *, failed: bool = False) -> Verdict:
        """The worst that a rank met one call ago, asked to stop or `failed`: it travels while the next step runs."""
        mine = Verdict.FAILED if failed else Verdict.STOP if self._requested else Verdict.GO_ON
        if distributed.world_size() == 1:
            return mine
        verdict = Verdict.GO_ON
        if self._pending is not None:
            work, flag = self._pending
            work.wait()
            verdict = Verdict(int(flag.item()))
        flag = torch.tensor([mine.value])
        self._pending = (torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, async_op=True), flag)
        return verdict

"""One process a rank on this machine, by torch's elastic launcher: each is as if torchrun had started it."""

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Optional

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.utils.distributed import get_socket_with_port
from torch.distributed.launcher import LaunchConfig, elastic_launch

from ssltyped.config import ConfigError
from ssltyped.data.workers import without_main
from ssltyped.engine.interrupt import handled_by
from ssltyped.types import Problem, RunStoppedError

ABORTED = 130
"""Exit code of a rank that a second Ctrl-C ended."""

MOMENT = 2.0
"""Seconds that the other ranks have to end by themselves when one has failed."""


class RankError(RuntimeError):
    """A rank failed. The text has its number and its traceback, or the signal that it died of."""


def run_ranks(function: Callable[[str], object], argument: str, world_size: int) -> None:
    """`function(argument)` in `world_size` processes; returns when all have ended well.

    Raises `ConfigError` or `RankError` for the first that has not, a moment after it, and KeyboardInterrupt if a
    second Ctrl-C ended it, or a signal that came before it listened. SIGTERM and Ctrl-C are passed on.
    """
    ranks = _Ranks(world_size)
    with get_socket_with_port() as probe:
        port = probe.getsockname()[1]
    logged = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # torch would tell there what is told below, and this process only waits
    try:
        with tempfile.TemporaryDirectory() as logs, ranks.looked_after(), without_main():
            settings = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=world_size,
                run_id="ssltyped",
                max_restarts=0,
                rdzv_backend="static",
                rdzv_endpoint=f"127.0.0.1:{port}",
                rdzv_configs={"rank": 0},
                logs_specs=DefaultLogsSpecs(log_dir=logs),
                signals_to_handle="",  # torch's handlers would give up at the first signal
            )
            try:
                elastic_launch(settings, _body)(function, argument)
            except ChildFailedError as error:
                raise _reason(Path(logs), error, ranks.signalled) from None
    finally:
        logging.disable(logged)


def _body(function: Callable[[str], object], argument: str) -> None:
    """What runs in a rank."""
    launcher = multiprocessing.parent_process()
    if launcher is None or not launcher.is_alive():  # it was killed before torch tied this process to it
        os._exit(1)
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        with told():
            function(argument)
    except KeyboardInterrupt:  # which torch would take for a good end, and the other ranks would wait
        sys.exit(ABORTED)
    except (Exception, SystemExit):  # told; torch would write it to another file, and leave that behind
        sys.exit(1)
    threading.Thread(target=_end_with_launcher, daemon=True).start()  # torch now waits for it to take note


def _end_with_launcher() -> None:
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    launcher.join()
    os._exit(0)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Tell the launcher what goes wrong within the block, if one has started this process. The innermost block tells:
    it should end before the process group, without which other ranks fail too."""
    try:
        yield
    except (Exception, SystemExit) as error:  # of a rank that leaves so, torch would think that it has ended well
        name = os.environ.get("TORCHELASTIC_ERROR_FILE")
        if name and not Path(name).exists():
            problems = [(one.path, one.message) for one in error.problems] if isinstance(error, ConfigError) else []
            stopped = str(error) if isinstance(error, RunStoppedError) else ""
            content = {
                "message": traceback.format_exc(),
                "timestamp": int(time.time()),
                "problems": problems,
                "stopped": stopped,
            }
            Path(name).write_text(json.dumps(content))
        raise


def _reason(logs: Path, error: ChildFailedError, signalled: bool) -> BaseException:
    """What the first rank that failed has told; the others may have failed for want of it."""
    rank, failure = error.get_first_failure()
    if failure.exitcode == ABORTED or (signalled and failure.exitcode < 0):
        return KeyboardInterrupt()
    first = min(logs.rglob("error.json"), key=lambda file: file.stat().st_mtime_ns, default=None)
    if first is None or failure.exitcode < 0:  # killed, it could not tell
        return RankError(f"rank {rank} died with exit code {failure.exitcode} ({failure.signal_name()})")
    content = json.loads(first.read_text())
    if content["problems"]:
        return ConfigError([Problem(*pair) for pair in content["problems"]])
    if content["stopped"]:
        return RunStoppedError(content["stopped"])
    return RankError(f"rank {first.parent.name} failed:\n{content['message']}")


class _Ranks:
    """The processes, while the main thread waits in torch's launcher."""

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self._others = multiprocessing.active_children()
        self._over = threading.Event()
        self.signalled = False

    def _processes(self) -> list[BaseProcess]:
        return [child for child in multiprocessing.active_children() if child not in self._others]

    @contextlib.contextmanager
    def looked_after(self) -> Iterator[None]:
        """Within the block they get signals too, and none goes on for long when one has failed."""
        threading.Thread(target=self._end_together, daemon=True).start()
        # A rank inherits this until it listens; here another thread takes the signal, and the main one handles it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with handled_by(self._pass_on):
                yield
        finally:
            self._over.set()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _pass_on(self, number: int, frame: Optional[FrameType]) -> None:
        """As SIGTERM: at a terminal Ctrl-C reaches a rank by itself, and a second one would abort it."""
        self.signalled = True
        for process in self._processes():
            process.terminate()

    def _end_together(self) -> None:
        """Kill those that go on when one has failed: they may wait for it without end."""
        while len(processes := self._processes()) < self._world_size:
            if self._over.wait(0.1):
                return
        running = processes
        while running:
            connection.wait([process.sentinel for process in running])
            time.sleep(MOMENT)
            if any(process.exitcode for process in processes):
                for process in processes:
                    process.kill()
            running = [process for process in running if process.exitcode is None]

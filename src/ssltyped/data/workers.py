"""Answers to a sequence of requests, in their order, by worker processes: torch's `DataLoader` over whole batches.

What is added to it: no process that has threads is forked, and a script needs no `if __name__ == "__main__":`; workers
leave Ctrl-C and SIGTERM to the main process, end with it however it ends, and are closed quickly; one that dies is an
error in a tenth of a second that says what it died of.
"""

import contextlib
import copy
import dataclasses
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from pickle import PicklingError
from types import ModuleType
from typing import TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from ssltyped.data.reading import DataError

A = TypeVar("A")

PATIENCE = 0.1
"""Seconds without an answer after which the workers are looked at."""

GRACE = 0.3
"""Seconds that a worker has to end by itself: the main process may be fetching the memory of an answer just now."""

LEFT_TO_MAIN = {signal.SIGINT, signal.SIGTERM}
"""The main process saves what there is to save and then closes the workers."""

_SERVER = forkserver.ForkServer()
"""Not the one that all of a program shares: what holds for ours would hold for processes that are not ours."""


@dataclasses.dataclass(frozen=True)
class _Failure:
    """What a dataset raised in a worker, and where."""

    error: Exception
    trace: str


def _sendable(error: Exception) -> Exception:
    """The error, if it can be sent, and be made again where it arrives; else this fails as that would."""
    ForkingPickler.dumps(error)
    return copy.copy(error)


class _Told(Dataset[A | _Failure]):
    """A dataset with what it raises among its answers: torch makes a traceback the message of the error."""

    def __init__(self, dataset: Dataset[A]) -> None:
        self._dataset = dataset

    def __getitem__(self, request: object) -> A | _Failure:
        try:
            return self._dataset[request]
        except Exception as error:
            try:
                return _Failure(_sendable(error), traceback.format_exc())
            except Exception:  # it cannot be sent: torch sends its text
                raise error from None


class Answers(Iterator[A]):
    """`dataset[request]` for every request, in order, in a process beside this one. Close it, or exhaust it.

    Raises what the dataset raises, and `DataError` if a worker process dies, or cannot be given the dataset.

    Args:
        dataset: pickled, with the requests and the answers, if there are workers
        requests: may be endless; read by this process, ahead of the answers
        num_workers: processes; 0: this process answers when it is asked
        pin_memory: put tensors in page-locked memory, for a GPU
    """

    def __init__(
        self, dataset: Dataset[A], requests: Iterable[object], *, num_workers: int, pin_memory: bool = False
    ) -> None:
        alive, ours = multiprocessing.Pipe(duplex=False)
        # Runs on garbage collection and at the end of the process, before multiprocessing joins its children.
        self._close = Finalize(self, ours.close, exitpriority=100)
        with _forked_from_server() if num_workers else contextlib.nullcontext() as context, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores
            loader = DataLoader(
                _Told(dataset) if num_workers else dataset,
                batch_size=None,
                sampler=requests,
                collate_fn=_as_it_is,
                num_workers=num_workers,
                pin_memory=pin_memory,
                timeout=PATIENCE if num_workers else 0,
                worker_init_fn=functools.partial(_prepare, alive),
                multiprocessing_context=context,
                generator=torch.Generator(),  # or it draws from the global one
            )
            self._iterator: Iterator[A | _Failure] = _started(loader)
        self._workers: Sequence[BaseProcess] = getattr(self._iterator, "_workers", ())
        alive.close()

    def __next__(self) -> A:
        while True:
            self._look_after_workers(0)
            try:
                return self._told(next(self._iterator))
            except StopIteration:
                self.close()
                raise
            except BaseException as error:
                if isinstance(error, RuntimeError) and str(error).startswith("DataLoader timed out"):
                    continue
                # An answer cannot be fetched from a worker that has just died.
                self._look_after_workers(PATIENCE)
                self.close()
                raise

    def _told(self, answer: A | _Failure) -> A:
        if isinstance(answer, _Failure):
            answer.error.add_note(f"in a data worker:\n{answer.trace}")
            raise answer.error
        return answer

    def _look_after_workers(self, timeout: float) -> None:
        if connection.wait([worker.sentinel for worker in self._workers], timeout):
            dead = next(worker for worker in self._workers if not worker.is_alive())
            self.close()
            raise DataError(_cause_of_death(dead))

    def close(self) -> None:
        """End the workers, whatever they do. What they have computed is lost."""
        self._close()
        self._iterator, self._workers = iter(()), ()


def _started(loader: DataLoader[A]) -> Iterator[A]:
    warnings.filterwarnings("ignore", "Got pickle error")  # torch advises to fork
    try:
        return iter(loader)
    except (PicklingError, AttributeError, TypeError) as error:
        message = "define classes at the top of a module, open files on first use, or take num_workers=0"
        raise DataError(f"worker processes cannot be given what reads the images: {error}; {message}") from error


def _as_it_is(answer: A) -> A:
    return answer


def _start_server() -> None:
    """Start it if it does not run: it imports what workers need, has one thread, and blocks the signals as they do."""
    _SERVER.set_forkserver_preload([__name__])
    resource_tracker.ensure_running()  # which would unblock the signals
    threads, blocked = os.environ.get("OMP_NUM_THREADS"), signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_MAIN)
    os.environ["OMP_NUM_THREADS"] = "1"  # numpy's library starts its threads when it is imported
    try:
        _SERVER.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        del os.environ["OMP_NUM_THREADS"]
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Processes started within the block do not run the main script again, which so needs no `if __name__ == ...`."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _forked_from_server() -> Iterator[ForkServerContext]:
    """A context whose processes are forked, within the block, from our server."""
    _start_server()
    connect = forkserver.connect_to_new_process
    forkserver.connect_to_new_process = _SERVER.connect_to_new_process
    try:
        with without_main():
            yield multiprocessing.get_context("forkserver")
    finally:
        forkserver.connect_to_new_process = connect


def _prepare(alive: connection.Connection, worker: int) -> None:
    """Run first in a worker. `alive` is at its end when the main process has closed the other one, or is gone."""
    cv2.setNumThreads(0)
    threading.Thread(target=_end_after, args=(alive,), daemon=True).start()


def _end_after(alive: connection.Connection) -> None:
    alive.poll(None)
    time.sleep(GRACE)
    os._exit(1)


def _cause_of_death(process: BaseProcess) -> str:
    code = process.exitcode
    what = f"data worker (process {process.pid}) died"
    if code is None or code >= 0:
        return f"{what} with exit code {code}"
    name = signal.Signals(-code).name
    hints = {
        "SIGKILL": "most likely memory ran out: use fewer workers or smaller batches",
        "SIGBUS": "most likely shared memory ran out: give /dev/shm more space, or use fewer workers",
    }
    return f"{what} of {name}; {hints.get(name, 'a crash in native code')}"

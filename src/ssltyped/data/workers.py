"""Answers to a sequence of requests, in their order, computed by worker processes (torchdata's `ParallelMapper`).

What is added to it: workers that leave Ctrl-C and SIGTERM to the main process and that end when it is gone
however it ended; an error instead of waiting for ever when a worker is killed; and a quick close.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier, Event
from multiprocessing.util import Finalize
from typing import Generic, Optional, TypeVar, Union

import cv2
import torch.multiprocessing
from torchdata.nodes import BaseNode, ParallelMapper

from ssltyped.data.reading import DataError, Stopped

Q = TypeVar("Q")
A = TypeVar("A")

PATIENCE = 1.0
"""Seconds without an answer after which the workers are looked at."""

START_TIMEOUT = 120.0
"""Seconds in which all workers must have started; they import torch where processes are not forked."""

LINGER = 0.3
"""Seconds that a worker stays after its last answer, whose memory it hands over."""

READY = 2
"""Finished answers that wait for the main process, beside the two a worker that torchdata keeps."""


class _Requests(BaseNode[Optional[Q]]):
    """One None for each worker, then the requests until there are no more or `stop` is set."""

    def __init__(self, requests: Iterable[Q], num_workers: int, stop: Event) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torchdata does not annotate it
        self._requests = requests
        self._num_workers = num_workers
        self._stop = stop

    def reset(self, initial_state: Optional[dict[str, object]] = None) -> None:
        super().reset(initial_state)
        self._iterator = self._all()

    def _all(self) -> Iterator[Optional[Q]]:
        for _ in range(self._num_workers):
            yield None
        for request in self._requests:
            if self._stop.is_set():
                return
            yield request

    def next(self) -> Optional[Q]:
        return next(self._iterator)

    def get_state(self) -> dict[str, object]:
        # A run resumes by its step, from which all requests follow.
        return {}


class _Answer(Generic[Q, A]):
    """What runs in a worker. The first call, with None, prepares the process and gives its id."""

    def __init__(self, answer: Callable[[Q, Stopped], A], present: Barrier, stop: Event) -> None:
        self._answer = answer
        self._present = present
        self._stop = stop

    def __call__(self, request: Optional[Q]) -> Union[int, A]:
        if request is not None:
            return self._answer(request, self._stop.is_set)
        # The main process saves what there is to save and then stops the workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        # The main process may be fetching the memory of an answer just now; it looks for the end every 0.1 s. Before
        # multiprocessing removes the socket for that, which it does at priority 0.
        Finalize(None, time.sleep, args=(LINGER,), exitpriority=10)
        cv2.setNumThreads(0)
        # So that every worker takes part once.
        self._present.wait(START_TIMEOUT)
        return os.getpid()


def _end_with_parent(parent: int) -> None:
    """End this process when its parent has gone; neither a queue nor a killed parent tells it."""
    main = multiprocessing.parent_process()
    while os.getppid() == parent and (main is None or main.is_alive()):
        time.sleep(1.0)
    os._exit(1)


class _End:
    """After the last answer."""


class _Pull(Generic[Q, A]):
    """The thread that takes the answers from torchdata: there the main process could only wait without end."""

    def __init__(self, mapper: ParallelMapper[Union[int, A]], num_workers: int, finish: Callable[[A], A]) -> None:
        self.answers: queue.Queue[Union[A, _End, BaseException]] = queue.Queue(READY)
        self.processes: list[BaseProcess] = []
        self.stop = threading.Event()
        self._mapper = mapper
        self._num_workers = num_workers
        self._finish = finish

    def run(self) -> None:
        last: Union[_End, BaseException] = _End()
        try:
            present = {next(self._mapper) for _ in range(self._num_workers)}
            self.processes = [child for child in multiprocessing.active_children() if child.pid in present]
            for answer in self._mapper:
                assert not isinstance(answer, int)
                self._put(self._finish(answer))
                if self.stop.is_set():
                    break
        except BaseException as error:
            last = error  # raised in the main thread
        self._put(last)
        del self._mapper  # which ends torchdata's threads

    def _put(self, item: Union[A, _End, BaseException]) -> None:
        while not self.stop.is_set():
            try:
                return self.answers.put(item, timeout=0.1)
            except queue.Full:
                continue


class WorkerPool(Generic[Q, A]):
    """Iterates over `answer(request, stopped)` for every request, in order. Close it, or use it in a `with`.

    `answer`, requests and answers are pickled, unless the platform forks. `stopped` tells a worker that it may give up.
    Raises what `answer` raises, and `DataError` if a worker process dies.

    Args:
        answer: what a worker computes
        requests: may be endless; read by a thread of this process
        num_workers: processes, at least 1
        finish: applied to each answer by a thread of this process
    """

    def __init__(
        self,
        *,
        answer: Callable[[Q, Stopped], A],
        requests: Iterable[Q],
        num_workers: int,
        finish: Callable[[A], A],
    ) -> None:
        assert num_workers > 0
        context = torch.multiprocessing.get_context()
        stop: Event = context.Event()
        worker = _Answer(answer, context.Barrier(num_workers), stop)
        source = _Requests(requests, num_workers, stop)
        mapper = ParallelMapper(source, map_fn=worker, num_workers=num_workers, in_order=True, method="process")
        self._pull: _Pull[Q, A] = _Pull(mapper, num_workers, finish)
        thread = threading.Thread(target=self._pull.run, daemon=True)
        # Runs on garbage collection and at the end of the process, before multiprocessing joins its children,
        # which ignore the SIGTERM that it would send.
        self._close = Finalize(self, _stop, args=(self._pull, thread, stop), exitpriority=100)
        thread.start()

    def __iter__(self) -> Iterator[A]:
        return self

    def __next__(self) -> A:
        if not self._close.still_active():
            raise StopIteration
        while True:
            self._check(lambda process: process.exitcode not in (None, 0))
            try:
                item = self._pull.answers.get(timeout=PATIENCE)
                break
            except queue.Empty:
                self._check(lambda process: not process.is_alive())
        if isinstance(item, _End):
            self.close()
            raise StopIteration
        if isinstance(item, BaseException):
            self.close()
            raise item
        return item

    def _check(self, ended: Callable[[BaseProcess], bool]) -> None:
        if dead := [process for process in self._pull.processes if ended(process)]:
            self.close()
            raise DataError(_cause_of_death(dead[0]))

    def close(self) -> None:
        """End the workers, within seconds whatever they do. What they have computed is lost."""
        self._close()


def _stop(pull: _Pull[Q, A], thread: threading.Thread, stop: Event) -> None:
    stop.set()
    pull.stop.set()
    if all(process.is_alive() for process in pull.processes):
        thread.join(timeout=2.0)
    for process in pull.processes:
        process.kill()
        process.join()


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

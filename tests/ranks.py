"""Run a function on W real ranks (gloo processes), quickly enough to do it in many tests.

    def _sum(x: list[Tensor]) -> Tensor:                       # a module-level function of the test file
        return distributed.all_reduce_sum(x[distributed.rank()])

    def test_sum() -> None:
        first, second = run_on_ranks(_sum, 2, [torch.ones(3), torch.ones(3)])

The function runs in W processes at once, each with the process group initialised, one thread and seed 0; every
rank gets the same arguments (pick by rank), and the results come back in rank order. Arguments and results are
pickled. If a rank raises, `RankError` shows the traceback of every rank that failed; a rank that waits for
another longer than the timeout is an error too. The processes stay for the next call of the same world size
(the first costs seconds, then milliseconds), so a function must leave no global state behind.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import inspect
import multiprocessing as mp
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar, cast

import pytest
import torch
import torch.distributed as dist

P = ParamSpec("P")
R = TypeVar("R")
TIMEOUT = 120.0


class RankError(RuntimeError):
    """At least one rank failed; the text holds the tracebacks."""


class _Task(NamedTuple):
    file: str
    module: str
    name: str
    arguments: bytes


def run_on_ranks(function: Callable[P, R], world_size: int, *args: P.args, **kwargs: P.kwargs) -> list[R]:
    """`function(*args, **kwargs)` on each of `world_size` ranks; the results in rank order."""
    module = inspect.getmodule(function)
    assert module is not None
    assert module.__file__ is not None, "the function must live in a file"
    task = _Task(module.__file__, module.__name__, function.__qualname__, pickle.dumps((args, kwargs)))
    pool = _POOLS.get(world_size) or _POOLS.setdefault(world_size, _Pool(world_size))
    try:
        return cast("list[R]", pool.run(task))
    except BaseException:  # ranks may be left inside a collective: the next call starts fresh ones
        _POOLS.pop(world_size).close()
        raise


def start_server() -> None:
    """Start what processes are forked from, if it does not run: it has imported what a rank needs."""
    forkserver.set_forkserver_preload(["rank_imports"])
    with pytest.MonkeyPatch.context() as patch:  # the server of Python < 3.13 looks for it there alone
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()


class _Pool:
    """W processes that wait for tasks at a pipe each."""

    def __init__(self, world_size: int) -> None:
        context = mp.get_context("forkserver")
        start_server()
        self.folder = tempfile.TemporaryDirectory(prefix="ranks-")
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(world_size):
            ours, theirs = context.Pipe()
            arguments = (theirs, rank, world_size, str(Path(self.folder.name) / "store"), sys.path)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def run(self, task: _Task) -> list[object]:
        for pipe in self.pipes:
            pipe.send(task)
        results: dict[int, object] = {}
        errors: dict[int, str] = {}
        deadline = time.monotonic() + TIMEOUT
        while len(results) + len(errors) < len(self.pipes):
            pending = [pipe for rank, pipe in enumerate(self.pipes) if rank not in results and rank not in errors]
            ready = cast("list[Connection]", wait(pending, max(0.0, deadline - time.monotonic())))
            if not ready:
                break
            for pipe in ready:
                self._receive(pipe, results, errors)
            if errors:  # the others probably wait for the one that failed: a moment for what they have to say
                deadline = min(deadline, time.monotonic() + 1.0)
        if errors:
            raise RankError("\n".join(f"rank {rank}:\n{errors[rank]}" for rank in sorted(errors)))
        if len(results) < len(self.pipes):
            silent = sorted(set(range(len(self.pipes))) - set(results))
            raise RankError(f"ranks {silent} did not finish within {TIMEOUT:.0f} s")
        return [results[rank] for rank in range(len(self.pipes))]

    def _receive(self, pipe: Connection, results: dict[int, object], errors: dict[int, str]) -> None:
        rank = self.pipes.index(pipe)
        try:
            good, answer = pickle.loads(pipe.recv_bytes())
        except EOFError:
            good, answer = False, "the process died"
        if good:
            results[rank] = answer
        else:
            errors[rank] = str(answer)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        for pipe in self.pipes:
            pipe.close()
        self.folder.cleanup()


def _serve(pipe: Connection, rank: int, world_size: int, store: str, path: list[str]) -> None:
    """The life of one rank: tasks until the pipe closes."""
    sys.path[:] = path
    importlib.import_module("rank_imports")  # if the server was started by somebody else
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=TIMEOUT),
    )
    with contextlib.suppress(EOFError):  # the tests are over
        while True:
            task = _Task(*pipe.recv())
            try:
                answer = pickle.dumps((True, _call(task)))
            except BaseException:
                answer = pickle.dumps((False, traceback.format_exc()))
            pipe.send_bytes(answer)


def _call(task: _Task) -> object:
    torch.manual_seed(0)
    if task.module not in sys.modules:  # by file: the name of a test module need not be importable
        spec = importlib.util.spec_from_file_location(task.module, task.file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[task.module] = module
        spec.loader.exec_module(module)
    function = sys.modules[task.module]
    for part in task.name.split("."):
        function = getattr(function, part)
    args, kwargs = pickle.loads(task.arguments)
    return cast("Callable[..., object]", function)(*args, **kwargs)


_POOLS: dict[int, _Pool] = {}


@atexit.register
def _close_all() -> None:
    for pool in _POOLS.values():
        pool.close()

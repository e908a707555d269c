"""Recorded cases of two ranks: all of them in one pair of processes."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tools.golden.arrays import Arrays, Case

Check = Callable[[Case, Arrays], "list[str]"]
"""A case of one rank to what is wrong with it."""

WORLD_SIZE = 2
TIMEOUT = 60.0


def check_on_ranks(cases: Sequence[Case], folder: Path, check: Check) -> dict[str, list[str]]:
    """What is wrong with each case, by its id; `check` is a function of a module."""
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        context = mp.get_context("forkserver")
        started = [
            context.Process(target=_rank, args=(rank, Path(scratch), list(cases), folder, check))
            for rank in range(WORLD_SIZE)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join()
        found = [_read(Path(scratch) / f"{rank}.json") for rank in range(WORLD_SIZE)]
    ended = "its process ended before it"
    return {
        case.id: [f"rank {rank}: {fault}" for rank in range(WORLD_SIZE) for fault in found[rank].get(case.id, [ended])]
        for case in cases
    }


def _read(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    found: dict[str, list[str]] = json.loads(path.read_text())
    return found


def _rank(rank: int, scratch: Path, cases: Sequence[Case], folder: Path, check: Check) -> None:
    """The life of one rank."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{scratch / 'store'}",
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=TIMEOUT),
    )
    arrays, found = Arrays(folder), {}
    for case in cases:
        found[case.id] = check(case.of_rank(rank), arrays)
        (scratch / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def failure(error: Exception) -> str:
    """An error of an adapter in one line, with the place it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssltyped.data.reading import DataError, Stopped
from ssltyped.data.workers import WorkerPool


def square(request: int, stopped: Stopped) -> tuple[int, int]:
    time.sleep(0.002 * (request % 3))  # so that they do not finish in order
    return request * request, os.getpid()


def same(answer: tuple[int, int]) -> tuple[int, int]:
    return answer


def pool_of(requests: Iterator[int] | range, num_workers: int = 2) -> WorkerPool[int, tuple[int, int]]:
    return WorkerPool(answer=square, requests=requests, num_workers=num_workers, finish=same)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_dead(pids: set[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_answers_in_order_from_all_workers() -> None:
    answers = list(pool_of(range(60)))
    assert [answer for answer, _ in answers] == [i * i for i in range(60)]
    pids = {pid for _, pid in answers}
    assert len(pids) == 2
    assert os.getpid() not in pids
    wait_until_dead(pids, 2)


def test_no_requests() -> None:
    pool = pool_of(range(0))
    assert list(pool) == []
    assert list(pool) == []


def test_close_is_quick_and_ends_the_workers() -> None:
    pool = pool_of(itertools.count())
    pids = {next(pool)[1] for _ in range(20)}
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < 2
    wait_until_dead(pids, 1)
    pool.close()
    assert list(pool) == []


def test_a_pool_that_is_dropped_ends_its_workers() -> None:
    pool = pool_of(itertools.count())
    pids = {next(pool)[1] for _ in range(20)}
    del pool
    wait_until_dead(pids, 5)


def slow_but_willing(request: int, stopped: Stopped) -> tuple[int, int]:
    for _ in range(1000):
        if stopped():
            return -1, 0
        time.sleep(0.01 if request else 0)
    return request, os.getpid()


def deaf(request: int, stopped: Stopped) -> tuple[int, int]:
    time.sleep(60 if request else 0)
    return request, os.getpid()


@pytest.mark.parametrize("answer, seconds", [(slow_but_willing, 2), (deaf, 4)])
def test_close_in_the_middle_of_work(answer: type, seconds: float) -> None:
    pool = WorkerPool(answer=answer, requests=itertools.count(), num_workers=1, finish=same)
    _, pid = next(pool)
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < seconds
    wait_until_dead({pid}, 1)


def fails_at_3(request: int, stopped: Stopped) -> tuple[int, int]:
    if request == 3:
        raise ValueError("three is not for me")
    return request, 0


def test_an_error_comes_through_at_its_place() -> None:
    pool = WorkerPool(answer=fails_at_3, requests=itertools.count(), num_workers=2, finish=same)
    assert [next(pool)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three is not for me"):
        next(pool)
    assert list(pool) == []


def broken_requests() -> Iterator[int]:
    yield 1
    raise KeyError("no more")


def test_an_error_of_the_requests_comes_through() -> None:
    pool = pool_of(broken_requests())
    assert next(pool)[0] == 1
    with pytest.raises(KeyError, match="no more"):
        next(pool)


def dies_at_5(request: int, stopped: Stopped) -> tuple[int, int]:
    if request == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return request, 0


def leaves_at_5(request: int, stopped: Stopped) -> tuple[int, int]:
    if request == 5:
        sys.exit()
    return request, 0


@pytest.mark.parametrize(
    "answer, message", [(dies_at_5, "SIGKILL; most likely memory ran out"), (leaves_at_5, "died with exit code 0")]
)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_worker_that_dies_is_an_error_in_time(answer: type, message: str, num_workers: int) -> None:
    pool = WorkerPool(answer=answer, requests=itertools.count(), num_workers=num_workers, finish=same)
    start = time.monotonic()
    with pytest.raises(DataError, match=message):
        list(itertools.islice(pool, 100))
    assert time.monotonic() - start < 5


def test_an_idle_worker_that_dies_is_noticed() -> None:
    pool = pool_of(itertools.count())
    pids = {next(pool)[1] for _ in range(20)}
    time.sleep(0.3)
    os.kill(pids.pop(), signal.SIGKILL)
    time.sleep(0.1)
    with pytest.raises(DataError, match="SIGKILL"):
        list(itertools.islice(pool, 5))


def test_signals_are_left_to_the_main_process() -> None:
    pool = pool_of(itertools.count())
    pids = {next(pool)[1] for _ in range(20)}
    for pid in pids:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    assert {next(pool)[1] for _ in range(40)} == pids
    pool.close()


SCRIPT = """
import itertools, sys
from data.test_workers import pool_of
pool = pool_of(itertools.count())
print(*{next(pool)[1] for _ in range(20)}, flush=True)
"""


def start(then: str) -> tuple[subprocess.Popen[str], set[int]]:
    """A process with a pool; the process ids of its workers."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT + then], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert process.stdout is not None
    pids = {int(word) for word in process.stdout.readline().split()}
    assert len(pids) == 2
    return process, pids


def test_workers_end_when_the_main_process_is_killed() -> None:
    process, pids = start("import time; time.sleep(60)")
    process.kill()
    process.wait()
    wait_until_dead(pids, 5)


@pytest.mark.parametrize("then", ["", "sys.exit(3)", "raise SystemError('a crash')"])
def test_a_process_that_never_closes_its_pool_ends(then: str) -> None:
    process, pids = start(then)
    assert process.wait(timeout=20) == (3 if "exit" in then else 1 if then else 0)
    wait_until_dead(pids, 5)

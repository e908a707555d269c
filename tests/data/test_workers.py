import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import pytest
import torch
from torch.utils.data import Dataset

from ssltyped.data.reading import DataError
from ssltyped.data.workers import Answers

Answer = tuple[int, int]


class By(Dataset[Answer]):
    """Answers by a function."""

    def __init__(self, function: Callable[[int], Answer]) -> None:
        self._function = function

    def __getitem__(self, request: int) -> Answer:
        return self._function(request)


def square(request: int) -> Answer:
    time.sleep(0.002 * (request % 3))  # so that they do not finish in order
    return request * request, os.getpid()


def pool_of(
    requests: Iterable[int], num_workers: int = 2, function: Callable[[int], Answer] = square
) -> Answers[Answer]:
    return Answers(By(function), requests, num_workers=num_workers)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


DEAF = 120
"""Seconds of a worker that is at work."""


def wait_until_dead(pids: set[int]) -> None:
    """They are to end by themselves; how soon is a matter of the machine's load."""
    deadline = time.monotonic() + DEAF / 2
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_answers_in_order_from_all_workers() -> None:
    answers = list(pool_of(range(60)))
    assert [answer for answer, _ in answers] == [i * i for i in range(60)]
    pids = {pid for _, pid in answers}
    assert len(pids) == 2
    assert os.getpid() not in pids
    wait_until_dead(pids)


def test_no_requests() -> None:
    for num_workers in (0, 2):
        pool = pool_of(range(0), num_workers)
        assert list(pool) == []
        assert list(pool) == []


def test_no_workers() -> None:
    """Then this process answers, when it is asked."""
    asked = itertools.count()
    pool = pool_of(asked, num_workers=0)
    assert [next(pool) for _ in range(3)] == [(0, os.getpid()), (1, os.getpid()), (4, os.getpid())]
    assert next(asked) == 3
    pool.close()
    assert list(pool) == []


def threads(request: int) -> Answer:
    return torch.get_num_threads(), cv2.getNumThreads()


def test_more_workers_than_cores_are_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(pool_of(range(3), (os.cpu_count() or 1) + 1))) == 3


def test_other_processes_of_the_program_are_as_they_were() -> None:
    """They too may be forked from a server, which is not ours."""
    next(pool_of(range(1)))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    process = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(timeout=20)
    assert process.exitcode == -signal.SIGTERM


def test_a_worker_computes_with_one_thread() -> None:
    assert next(pool_of(range(1), function=threads)) == (1, 1)


def test_the_random_numbers_of_the_main_process_are_not_touched() -> None:
    before = torch.random.get_rng_state()
    for num_workers in (0, 1):
        next(pool_of(range(1), num_workers))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_close_is_quick_and_ends_the_workers() -> None:
    pool = pool_of(itertools.count())
    pids = {next(pool)[1] for _ in range(20)}
    pool.close()  # it has answers for ever, and would never come to their end
    wait_until_dead(pids)
    pool.close()
    assert list(pool) == []


def test_a_pool_that_is_dropped_ends_its_workers() -> None:
    pool = pool_of(itertools.count())
    pids = {next(pool)[1] for _ in range(20)}
    del pool
    wait_until_dead(pids)


def deaf(request: int) -> Answer:
    time.sleep(DEAF if request else 0)
    return request, os.getpid()


def test_close_in_the_middle_of_work() -> None:
    pool = pool_of(itertools.count(), 1, deaf)
    _, pid = next(pool)
    start = time.monotonic()
    pool.close()
    wait_until_dead({pid})
    assert time.monotonic() - start < DEAF / 2, "it would be at work much longer"


def fails_at_3(request: int) -> Answer:
    if request == 3:
        raise ValueError("three is not for me")
    return request, 0


def test_an_error_comes_through_at_its_place() -> None:
    pool = pool_of(itertools.count(), 2, fails_at_3)
    assert [next(pool)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three is not for me") as caught:
        next(pool)
    assert str(caught.value) == "three is not for me"
    assert "in fails_at_3" in caught.value.__notes__[0]
    assert list(pool) == []


class CannotBeSentError(Exception):
    def __init__(self, *, place: int, why: str) -> None:
        super().__init__(f"{why} at {place}")


def fails_unpicklably(request: int) -> Answer:
    raise CannotBeSentError(place=request, why="no")


def test_an_error_that_cannot_be_sent_comes_as_text() -> None:
    with pytest.raises(RuntimeError, match="no at 0"):
        next(pool_of(range(2), 1, fails_unpicklably))


def broken_requests() -> Iterator[int]:
    yield 1
    raise KeyError("no more")


def test_an_error_of_the_requests_comes_through() -> None:
    """At once: they are read ahead of the answers."""
    with pytest.raises(KeyError, match="no more"):
        list(pool_of(broken_requests()))


def dies_at_5(request: int) -> Answer:
    if request == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return request, 0


def leaves_at_5(request: int) -> Answer:
    if request == 5:
        sys.exit()
    return request, 0


def bus_error_at_5(request: int) -> Answer:
    if request == 5:
        os.kill(os.getpid(), signal.SIGBUS)
    return request, 0


@pytest.mark.parametrize(
    "function, message",
    [
        (dies_at_5, "SIGKILL; most likely memory ran out"),
        (bus_error_at_5, "SIGBUS; most likely shared memory ran out"),
        (leaves_at_5, "died with exit code 0"),
    ],
)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_worker_that_dies_is_an_error_in_time(
    function: Callable[[int], Answer], message: str, num_workers: int
) -> None:
    pool = pool_of(itertools.count(), num_workers, function)
    next(pool)
    with pytest.raises(DataError, match=message):
        list(itertools.islice(pool, 100))
    assert list(pool) == []


def test_an_idle_worker_that_dies_is_noticed() -> None:
    pool = pool_of(itertools.count())
    pids = {next(pool)[1] for _ in range(20)}
    time.sleep(0.3)
    os.kill(pids.pop(), signal.SIGKILL)
    time.sleep(0.1)
    with pytest.raises(DataError, match="SIGKILL"):
        list(itertools.islice(pool, 5))


def test_what_cannot_be_sent_is_an_error() -> None:
    class Local(By):
        pass

    locked = By(square)
    locked.lock = threading.Lock()  # type: ignore[attr-defined]
    for dataset in (Local(square), locked):
        with pytest.raises(DataError, match=r"cannot be given what reads the images: .* or take num_workers=0"):
            Answers(dataset, range(3), num_workers=1)


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


def start(folder: Path, then: str) -> tuple[subprocess.Popen[str], set[int]]:
    """A script with a pool, that does not ask whether it is the main module; the process ids of its workers."""
    (folder / "script.py").write_text(SCRIPT + then)
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("OMP_NUM_THREADS", None)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", folder / "script.py"],
        stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    pids = {int(word) for word in process.stdout.readline().split()}
    assert len(pids) == 2
    return process, pids


def status(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def test_who_forks_has_one_thread_and_all_end_when_the_main_process_is_killed(tmp_path: Path) -> None:
    process, pids = start(tmp_path, "import time; time.sleep(60)")
    (server,) = {status(pid, "PPid") for pid in pids}
    assert server != process.pid
    assert status(server, "Threads") == 1
    process.kill()
    process.wait()
    wait_until_dead({server, *pids})


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_all_processes_stops_no_worker(tmp_path: Path, number: signal.Signals) -> None:
    """As a terminal and a cluster send it."""
    ignored = "import signal; signal.signal(signal.SIGTERM, print); signal.signal(signal.SIGINT, print)\n"
    process, pids = start(tmp_path, ignored + "print('now', flush=True)\nfor _ in range(2000): next(pool)\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    os.killpg(process.pid, number)
    assert process.wait(timeout=60) == 0
    assert str(int(number)) in process.stdout.read()
    wait_until_dead(pids)


@pytest.mark.parametrize(
    "then",
    [*(pytest.param(end, marks=pytest.mark.slow) for end in ("", "sys.exit(3)")), "raise SystemError('a crash')"],
)
def test_a_process_that_never_closes_its_pool_ends(tmp_path: Path, then: str) -> None:
    process, pids = start(tmp_path, then)
    assert process.wait(timeout=20) == (3 if "exit" in then else 1 if then else 0)
    wait_until_dead(pids)

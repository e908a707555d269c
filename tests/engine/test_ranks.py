"""Processes by torch's launcher: what they see, how they end, and what is left of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from ssltyped.config import ConfigError
from ssltyped.engine import ranks
from ssltyped.engine.parallel import Place
from ssltyped.engine.ranks import RankError, run_ranks, told
from ssltyped.types import Problem


@pytest.fixture(autouse=True)
def _nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """No file, no line of output, no handler of a signal."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == []
    assert capfd.readouterr() == ("", "")


def join() -> int:
    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank()


def adds_up(folder: str) -> None:
    rank = join()
    total = torch.tensor(rank)
    torch.distributed.all_reduce(total)
    place = Place.from_environment()
    assert place is not None
    seen = [place.rank, place.world_size, place.local_rank, place.local_world_size, int(total)]
    (Path(folder) / f"{rank}.json").write_text(json.dumps([*seen, torch.get_num_threads(), os.environ["MASTER_ADDR"]]))
    torch.distributed.destroy_process_group()


def test_ranks_are_as_if_torchrun_had_started_them(tmp_path: Path) -> None:
    run_ranks(adds_up, str(tmp_path), 2)
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    threads = max(1, (os.cpu_count() or 1) // 2) if not torch.cuda.is_available() else seen[0][5]
    assert seen == [[rank, 2, rank, 2, 1, threads, "127.0.0.1"] for rank in range(2)]


def one_fails(how: str) -> None:
    folder, way = os.path.split(how)
    if join() == 0:
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        time.sleep(60)
    (Path(folder) / "when").write_text(str(time.time()))
    if way == "mistake":
        raise ConfigError([Problem("data.train.path", "is not there")])
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("way", "kind", "text"),
    [
        ("mistake", ConfigError, "data.train.path: is not there"),
        ("abort", KeyboardInterrupt, None),
    ],
)
def test_a_rank_that_fails_ends_those_that_do_not_listen(
    way: str, kind: type[BaseException], text: str | None, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=text):
        run_ranks(one_fails, str(tmp_path / way), 2)
    assert time.time() - float((tmp_path / "when").read_text()) < 20, "torch would wait for 30 s"


def fails_in_the_group(way: str) -> None:
    try:
        with told():
            rank = join()
            torch.distributed.barrier()  # or gloo, which still connects the other one, prints that this one is gone
            if rank == 1 and way == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if rank == 1:
                raise ValueError("the cause")
            torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("raise", r"rank 1 failed:\nTraceback [\s\S]*ValueError: the cause"),
        ("die", r"rank 1 died with exit code -9 \(SIGKILL\)"),
    ],
)
def test_the_rank_that_failed_first_is_named(way: str, text: str) -> None:
    """Not those that fail for want of it."""
    with pytest.raises(RankError, match=text):
        run_ranks(fails_in_the_group, way, 2)


def listens(folder: str) -> None:
    """Until it was signalled twice."""
    rank, came = os.environ["RANK"], list[int]()
    signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    for count in range(3):
        (Path(folder) / f"{rank}.{count}").touch()
        while len(came) == count < 2:
            time.sleep(0.05)


def deaf(folder: str) -> None:
    (Path(folder) / f"{os.environ['RANK']}.0").touch()
    time.sleep(60)


def signalled(function: Callable[[str], None], numbers: Sequence[int], folder: Path) -> None:
    """Run two ranks, and signal this process, each time that both are ready."""

    def send() -> None:
        for count, number in enumerate(numbers):
            while len(list(folder.glob(f"*.{count}"))) < 2:
                time.sleep(0.05)
            os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    run_ranks(function, str(folder), 2)


def test_signals_reach_all_ranks(tmp_path: Path) -> None:
    """As SIGTERM, which makes a rank save; that is a good end."""
    signalled(listens, [signal.SIGINT, signal.SIGTERM], tmp_path)
    assert {file.name for file in tmp_path.glob("*.2")} == {"0.2", "1.2"}


def test_a_signal_before_a_rank_listens_is_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        signalled(deaf, [signal.SIGINT], tmp_path)


def saves(folder: str) -> None:
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    (Path(folder) / f"{os.getpid()}.pid").touch()
    while not came:
        time.sleep(0.05)
    (Path(folder) / f"{os.getpid()}.saved").touch()


def test_ranks_save_and_end_when_the_launcher_is_killed(tmp_path: Path) -> None:
    script = "import sys; from engine.test_ranks import saves, run_ranks; run_ranks(saves, sys.argv[1], 2)"
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    launcher = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
    )
    while len(pids := [int(file.stem) for file in tmp_path.glob("*.pid")]) < 2:
        assert launcher.poll() is None
        time.sleep(0.05)
    launcher.kill()
    launcher.wait()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert len(list(tmp_path.glob("*.saved"))) == 2
    for left in (tmp_path / "tmp").iterdir():  # by a process that was killed
        shutil.rmtree(left)


def test_what_goes_wrong_is_told_once_and_only_to_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    with pytest.raises(KeyError), told():
        raise KeyError("alone")
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    with pytest.raises(KeyError):
        fails_twice()
    assert json.loads(file.read_text())["message"].splitlines()[-1] == "ValueError: the cause"


def fails_twice() -> None:
    with told():
        try:
            with told():
                raise ValueError("the cause")
        except ValueError as error:
            raise KeyError("what came of it") from error


def test_from_a_thread(tmp_path: Path) -> None:
    """Signals reach the main thread only; ranks start and end all the same."""
    threading.Thread(target=run_ranks, args=(adds_up, str(tmp_path), 2)).start()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(60)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["0.json", "1.json"]


def test_a_rank_whose_launcher_is_gone_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed while the rank imported: torch tells the rank of a death from later on only."""

    class Gone:
        def is_alive(self) -> bool:
            return False

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(multiprocessing, "parent_process", Gone)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as ended:
        ranks._body(lambda argument: pytest.fail("it ran"), "")
    assert ended.value.code == 1

"""One run at a time in a folder: who is told to wait, what a dead one leaves, and who shares."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from ranks import start_server
from tiny import environment, tiny

from ssltyped import launch
from ssltyped.config import ConfigError
from ssltyped.engine import lock
from ssltyped.engine.lock import FILE, Owner, locked

HOLD = "import sys; from pathlib import Path; from ssltyped.engine.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held')"


def _hold(folder: str, held: Event) -> None:
    with locked(Path(folder)):
        held.set()
        time.sleep(120)


@contextmanager
def another(folder: Path) -> Iterator[BaseProcess]:
    """A process of its own that owns the folder."""
    start_server()
    context = multiprocessing.get_context("forkserver")
    held = context.Event()
    process = context.Process(target=_hold, args=(str(folder), held))
    process.start()
    assert held.wait(60)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught, locked(folder):
        pass
    (problem,) = caught.value.problems
    assert problem.path == "name"
    return problem.message


def elsewhere(folder: Path, host: str = "node17", pid: int = 4) -> Path:
    """The lock of a process on another host, whose operating system's lock is not seen here."""
    folder.mkdir(exist_ok=True)
    file = folder / FILE
    file.write_text(json.dumps({"host": host, "pid": pid, "since": "yesterday"}))
    return file


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    with another(tmp_path) as first:
        message = refused(tmp_path)
        assert f"{tmp_path} is in use by process {first.pid} on {socket.gethostname()} (since " in message
        assert "wait for it, or name=NEW for another run" in message
        assert "remove" not in message, "of this host it is known whether it lives"
        assert (tmp_path / FILE).exists()


def test_a_clean_end_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with locked(folder):
        owner = Owner.of(folder / FILE)
        assert owner is not None
        assert owner.pid == os.getpid()
        assert "in use by process" in refused(folder)
        assert (folder / FILE).exists(), "the one that was refused has not let it go"
    assert not (tmp_path / "a").exists(), "nothing was written to it"
    with locked(folder):
        (folder / "asked.yaml").write_text("")
    assert [path.name for path in folder.iterdir()] == ["asked.yaml"]


def test_a_killed_one_does_not_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with another(tmp_path) as first:
        first.kill()
        first.join()
        with locked(tmp_path):
            owner = Owner.of(tmp_path / FILE)
            assert owner is not None
            assert owner.pid == os.getpid()
    assert f"process {first.pid} on {socket.gethostname()}" in capsys.readouterr().out


def test_a_copy_of_the_folder_does_not_let_it_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open the file of a lock of one's own and close it lets the operating system's lock go."""
    monkeypatch.setattr(lock, "BEAT", 0.1)
    folder = tmp_path / "run"
    with locked(folder):
        shutil.copytree(folder, tmp_path / "copy")
        command = [sys.executable, "-c", HOLD, str(folder)]
        other = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        assert f"{folder} is in use by process {os.getpid()} on {socket.gethostname()}" in other.stderr
        assert "held" not in other.stdout
        owner = Owner.of(folder / FILE)
        assert owner is not None
        assert owner.pid == os.getpid(), "it is as it was"


def test_a_copy_is_free_when_its_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names a process that lives, and that does not touch it."""
    monkeypatch.setattr(lock, "SILENCE", 0.3)
    monkeypatch.setattr(lock, "BEAT", 0.1)
    with locked(tmp_path / "run"):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        with locked(tmp_path / "copy"):
            pass
    assert f"this run takes over {tmp_path / 'copy'}" in capsys.readouterr().out


def test_a_dead_one_on_another_host_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "SILENCE", 0.3)
    monkeypatch.setattr(lock, "BEAT", 0.1)
    elsewhere(tmp_path)
    with locked(tmp_path):
        pass
    assert "process 4 on node17 (since yesterday) has ended without a word" in capsys.readouterr().out


def test_a_living_one_on_another_host_does_and_what_to_do_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SILENCE", 10.0)
    monkeypatch.setattr(lock, "BEAT", 0.05)
    file, over = elsewhere(tmp_path), threading.Event()
    beating = threading.Thread(target=lock._beat, args=(file, over))
    beating.start()
    message = refused(tmp_path)
    over.set()
    beating.join()
    assert "in use by process 4 on node17" in message
    assert f"if that process is gone, remove {file}" in message
    assert Owner.of(file) == Owner("node17", 4, "yesterday"), "it is not disturbed"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"host": 1}', "null"])
def test_a_lock_that_says_nothing_is_nobodys(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with locked(tmp_path):
        assert Owner.of(tmp_path / FILE) is not None


@pytest.mark.parametrize("pid", [os.getppid(), 2**22 + 1], ids=["lives", "dead"])
def test_where_there_are_no_locks_the_process_is_looked_for(
    pid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    elsewhere(tmp_path, socket.gethostname(), pid)
    if pid == os.getppid():
        assert f"in use by process {pid}" in refused(tmp_path)
    else:
        with locked(tmp_path):
            pass


def _share(folder: str) -> None:
    with locked(Path(folder)):
        pass


def test_the_ranks_of_a_run_share_its_lock(tmp_path: Path) -> None:
    start_server()
    forked = multiprocessing.get_context("forkserver")
    with locked(tmp_path):
        ranks = [forked.Process(target=_share, args=(str(tmp_path),)) for _ in range(2)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        assert [rank.exitcode for rank in ranks] == [0, 0]
        assert (tmp_path / FILE).exists(), "it is the launcher's, also when a rank has ended"


def test_a_fresh_folder_is_nobody_elses(tmp_path: Path) -> None:
    with locked(tmp_path / "a", fresh=True), pytest.raises(FileExistsError), locked(tmp_path / "a", fresh=True):
        pass


def test_the_owner_is_heard_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with locked(tmp_path):
        os.utime(tmp_path / FILE, (1.0, 1.0))
        until = time.monotonic() + 60
        while (tmp_path / FILE).stat().st_mtime == 1.0 and time.monotonic() < until:
            time.sleep(0.02)
        assert (tmp_path / FILE).stat().st_mtime > 1.0


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_second_run_does_not_touch_what_the_first_writes(ranks: int, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    partial = folder / "checkpoints" / "step_00000003.tmp"
    with another(folder):
        partial.mkdir(parents=True)
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != FILE}
        with pytest.raises(ConfigError, match=r"name: .* is in use by process"):
            launch(tiny(output=tmp_path), overrides=[f"distributed.num_procs={ranks}", "data.train.batch_size=4"])
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != FILE} == before
    launch(tiny(output=tmp_path), overrides=[f"distributed.num_procs={ranks}", "data.train.batch_size=4"])
    assert not partial.exists(), "of a run that has died"
    assert not (folder / FILE).exists()

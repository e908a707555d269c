"""One run at a time owns a folder: `lock` in it says which process, on which host, and goes when that ends.

The lock is one of the operating system (fcntl), which a process that dies cannot keep. On a file system of several
hosts these locks may be each host's own, and a process that opens its own lock and closes it (a copy of the folder
does) has lost it. So the owner also touches the file all the time: one that is not heard of for a while is dead.
"""

import errno
import fcntl
import json
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Optional, Self

from ssltyped.config import ConfigError
from ssltyped.engine.parallel import say
from ssltyped.types import Problem

FILE = "lock"
BEAT, SILENCE = 5.0, 20.0
"""Seconds between two touches, and after which an owner whose lock is not to be seen is taken for dead."""

_BUSY = (errno.EACCES, errno.EAGAIN)
_held: set[Path] = set()
"""Of this process: to open and close the file of one of these would let the lock go."""


class Owner(NamedTuple):
    """Who runs in a folder."""

    host: str
    pid: int
    since: str

    @classmethod
    def here(cls) -> Self:
        return cls(socket.gethostname(), os.getpid(), datetime.now().isoformat(sep=" ", timespec="seconds"))

    @classmethod
    def of(cls, file: Path) -> Optional[Self]:
        """What a lock says; None for one that says nothing (yet, or any more)."""
        try:
            content = json.loads(file.read_text())
            return cls(str(content["host"]), int(content["pid"]), str(content["since"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"

    @property
    def is_launcher(self) -> bool:
        """Whether it is the process that started this one, as one of its ranks."""
        parent = multiprocessing.parent_process()
        return self.host == socket.gethostname() and parent is not None and parent.pid == self.pid


@contextmanager
def locked(folder: Path, *, fresh: bool = False) -> Iterator[None]:
    """Own a folder for the time of the block; it is made if need be, and goes again if nothing is in it then.

    The ranks that a process has started share what it owns. Raises `ConfigError`, which names the owner, if another
    process owns it, and OSError if it cannot be made, or, when it must be `fresh`, is there already.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=not fresh)
    try:
        file = (folder / FILE).resolve()
        handle = _taken(file)
        if handle is None:
            yield
            return
        over = threading.Event()
        threading.Thread(target=_beat, args=(file, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            file.unlink(missing_ok=True)
            _held.discard(file)
            os.close(handle)
    finally:
        with suppress(OSError):  # something was written to it
            for path in new:
                path.rmdir()


def _taken(file: Path) -> Optional[int]:
    """The open file of a lock that this process has now; None if its launcher has it."""
    if file in _held:
        raise _in_use(file, Owner.here())
    before = Owner.of(file)
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _locks(handle, before):
            owner = _told(file)
            if owner is not None and owner.is_launcher:
                return None
            raise _in_use(file, owner)
        if not file.exists() or not os.path.samestat(os.fstat(handle), file.stat()):
            return _taken(file)  # its owner has removed it since it was opened
        if before is not None and before.is_launcher:
            return None
        if before is not None:
            # Its own host's lock is gone too if the owner has opened the file and closed it, as a copy of it does.
            if (before.host != socket.gethostname() or _runs(before.pid)) and _beats(file):
                raise _in_use(file, before)
            say(f"{before} has ended without a word; this run takes over {file.parent}")
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(Owner.here()._asdict()).encode(), 0)
        _held.add(file)
        return handle
    finally:
        if file not in _held:
            os.close(handle)


def _locks(handle: int, before: Optional[Owner]) -> bool:
    """Take the operating system's lock, or, where there are none, look whether the process of this host is there."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        return before is None or before.host != socket.gethostname() or not _runs(before.pid)
    return True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:  # one of another user's may not be asked, but is there
        return not isinstance(error, ProcessLookupError)
    return True


def _told(file: Path) -> Optional[Owner]:
    """Who has a lock: it is written a moment after it is taken."""
    for _ in range(20):
        if owner := Owner.of(file):
            return owner
        time.sleep(0.05)
    return None


def _beat(file: Path, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with suppress(OSError):
            os.utime(file)


def _beats(file: Path) -> bool:
    """Whether the owner is heard of: no clock is compared with another."""
    say(f"waiting {SILENCE:.0f} s for a sign of the run that {file} names")
    seen, until = file.stat().st_mtime_ns, time.monotonic() + SILENCE
    while time.monotonic() < until:
        time.sleep(BEAT / 10)
        if not file.exists() or file.stat().st_mtime_ns != seen:
            return True
    return False


def _in_use(file: Path, owner: Optional[Owner]) -> ConfigError:
    elsewhere = owner is not None and owner.host != socket.gethostname()
    gone = f"; if that process is gone, remove {file}" if elsewhere else ""
    message = f"{file.parent} is in use by {owner or 'another process'}: wait for it, or name=NEW for another run{gone}"
    return ConfigError([Problem("name", message)])

"""Lists of paths that live in a file, not in memory: all processes of a machine share the pages of one mapping."""

import functools
import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int64


class PathIndex:
    """N byte strings: number i is `text[starts[i]:starts[i + 1]]`, with both files memory-mapped on first use.

    Pickles as the two paths.

    Args:
        text: the strings, one after the other
        starts: a `.npy` file of N + 1 offsets into `text`
    """

    def __init__(self, *, text: Path, starts: Path) -> None:
        self.text, self.starts = text, starts

    def __getstate__(self) -> dict[str, Path]:
        return {"text": self.text, "starts": self.starts}

    @functools.cached_property
    def _offsets(self) -> Int64[np.ndarray, "N1"]:
        offsets: Int64[np.ndarray, "N1"] = np.load(self.starts, mmap_mode="r")
        return offsets

    @functools.cached_property
    def _bytes(self) -> mmap.mmap:
        with self.text.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> str:
        start, end = self._offsets[index : index + 2]
        return os.fsdecode(self._bytes[start:end].strip(b"\r\n"))


def cache_folder() -> Path:
    """A folder for index files, of this user alone. Files are named by their content, so none is ever stale."""
    folder = Path(tempfile.gettempdir()) / f"ssltyped-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # In a shared folder for temporary files the name may be taken by somebody else.
    return folder if folder.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix="ssltyped-"))


def write_index(names: Iterable[str]) -> PathIndex:
    """The index of these names, written as they come."""
    folder = cache_folder()
    digest = hashlib.sha256()
    ends = _Offsets()
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        for name in names:
            data = os.fsencode(name)
            file.write(data)
            ends.add(len(data))
            digest.update(len(data).to_bytes(8, "little") + data)
    text = folder / f"{digest.hexdigest()}.names"
    Path(file.name).replace(text)
    return PathIndex(text=text, starts=save_mapped(ends.array()))


def index_lines(text: Path) -> PathIndex:
    """The index of the non-empty lines of a text file; blank ones may only stand at its end (else ValueError)."""
    lines = _Offsets()
    blank = 0
    with text.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                blank = blank or number
            elif blank:
                raise ValueError(f"{text}, line {blank} is blank")
            else:
                lines.add(len(line))
    return PathIndex(text=text, starts=save_mapped(lines.array()))


class _Offsets:
    """Running sums in chunks of a fixed size, so that a long list costs 8 bytes an entry while it is made."""

    CHUNK = 1 << 16

    def __init__(self) -> None:
        self._done: list[Int64[np.ndarray, "P"]] = []
        self._open: list[int] = [0]

    def add(self, length: int) -> None:
        self._open.append(self._open[-1] + length)
        if len(self._open) > self.CHUNK:
            self._done.append(np.array(self._open[:-1], dtype=np.int64))
            self._open = self._open[-1:]

    def array(self) -> Int64[np.ndarray, "N1"]:
        return np.concatenate([*self._done, np.array(self._open, dtype=np.int64)])


def save_mapped(array: Int64[np.ndarray, "P"]) -> Path:
    """A `.npy` of this array in the cache, to be memory-mapped."""
    folder = cache_folder()
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        np.save(file, array)
    saved = folder / f"{hashlib.sha256(array.tobytes()).hexdigest()}.npy"
    Path(file.name).replace(saved)
    return saved

"""Lists of paths that live in a file, not in memory: all processes of a machine share the pages of one mapping."""

import functools
import hashlib
import mmap
import os
import tempfile
from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped


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
        return os.fsdecode(self._bytes[start:end])


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
    starts = array("q", [0])
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        for name in names:
            data = os.fsencode(name)
            file.write(data)
            starts.append(starts[-1] + len(data))
            digest.update(len(data).to_bytes(8, "little") + data)
    text = folder / f"{digest.hexdigest()}.names"
    Path(file.name).replace(text)
    return PathIndex(text=text, starts=save_mapped(np.array(starts)))


def save_mapped(values: Int64[np.ndarray, "P ..."]) -> Path:
    """A `.npy` of this array in the cache, to be memory-mapped."""
    folder = cache_folder()
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        np.save(file, values)
    saved = folder / f"{hashlib.sha256(values.tobytes()).hexdigest()}.npy"
    Path(file.name).replace(saved)
    return saved


def load_array(path: Path) -> Shaped[np.ndarray, "..."]:
    """What is in a `.npy`, memory-mapped. Raises ValueError for one that holds Python objects, or is none."""
    try:
        array: Shaped[np.ndarray, "..."] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        message = "is no array of numbers or text, as np.save(file, np.array(paths, dtype=str)) writes one"
        raise ValueError(f"{path} {message}") from error
    return array

"""What a folder holds: searched once by a process, and again only when one of its folders has changed."""

import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from ssltyped.data.decode import EXTENSIONS
from ssltyped.data.index import PathIndex, write_index

SETTLED = 1.0
"""Seconds after which a change of a folder shows in its time of change; a younger one is searched again."""

KINDS = 5
"""Suffixes of files that were left out that are named."""


def is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images below a folder, hidden files and folders left out, links followed.

    Args:
        files: their paths in it: first those directly in it, then by sub-folder; sorted in each
        counts: number of images below each sub-folder, by its name, sorted; "" has those directly in it
        direct: names of the sub-folders with an image directly in them, not only deeper
        left_out: number of other files by suffix
        twice: folders, relative to this one, that another path leads to as well
        changed: when each folder that was searched had changed, in ns
        taken: when it was searched, in ns
    """

    files: PathIndex
    counts: Mapping[str, int]
    direct: frozenset[str]
    left_out: Mapping[str, int]
    twice: frozenset[str]
    changed: Mapping[str, int]
    taken: int

    @property
    def folders(self) -> list[str]:
        """Names of the folders directly in it."""
        return [name for name in self.counts if name]

    @property
    def empty(self) -> list[str]:
        """Those of them without an image."""
        return [name for name in self.folders if not self.counts[name]]

    def distinct(self) -> PathIndex:
        """The files, each by one path only."""
        if not self.twice:
            return self.files
        names = (self.files[index] for index in range(len(self.files)))
        return write_index(name for name in names if os.path.dirname(name) not in self.twice)  # noqa: PTH120

    def remark(self) -> str:
        """The files that were left out, in words; empty if there are none."""
        if not self.left_out:
            return ""
        most = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        kinds = [f"{count:,} {suffix}" for suffix, count in most[:KINDS]] + ["..."] * (len(most) > KINDS)
        total = sum(self.left_out.values())
        return f"{total:,} file{'s' * (total > 1)} left out, no images by their suffix: {', '.join(kinds)}"

    def holds(self) -> bool:
        """Whether a search would give the same again."""
        try:
            times = {folder: os.stat(folder).st_mtime_ns for folder in self.changed}  # noqa: PTH116
        except OSError:
            return False
        # A mounted object store may have no times at all.
        return times == self.changed and min(times.values()) > 0 and max(times.values()) < self.taken - SETTLED * 1e9

    def to_json(self) -> str:
        """All of it but the files, which stay where they are on this machine."""
        files = [str(self.files.text), str(self.files.starts)]
        return json.dumps({**vars(self), "files": files, "direct": list(self.direct), "twice": list(self.twice)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        state = json.loads(text)
        names, starts = map(Path, state.pop("files"))
        direct, twice = frozenset(state.pop("direct")), frozenset(state.pop("twice"))
        return cls(files=PathIndex(text=names, starts=starts), direct=direct, twice=twice, **state)


_LISTINGS: dict[Path, Listing] = {}


def listing(folder: Path) -> Listing:
    """What the folder holds. Raises OSError for a folder, also one in it, that may not be read."""
    folder = folder.absolute()
    found = _LISTINGS.get(folder)
    if found is None or not found.holds():
        found = _LISTINGS[folder] = _Search(folder).listing()
    return found


def listings() -> Mapping[Path, Listing]:
    """What this process has searched, for others that it starts."""
    return dict(_LISTINGS)


def remember(listings: Mapping[Path, Listing]) -> None:
    """Take over what another process has searched; what has changed since is searched again."""
    _LISTINGS.update(listings)


class _Search:
    """One walk through a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._taken = folder, time.time_ns()
        self._counts: dict[str, int] = {"": 0}
        self._direct: set[str] = set()
        self._left_out: Counter[str] = Counter()
        self._twice: set[str] = set()
        self._changed: dict[str, int] = {}
        self._all_seen: set[tuple[int, int]] = set()

    def listing(self) -> Listing:
        files = write_index(self._images("", "", set()))
        twice = frozenset(self._twice)
        direct = frozenset(self._direct)
        return Listing(files, self._counts, direct, dict(self._left_out), twice, self._changed, self._taken)

    def _images(self, place: str, top: str, seen: set[tuple[int, int]]) -> Iterator[str]:
        """The images in and below the folder at a place, which is in the folder `top`, where others have been seen."""
        here = os.path.join(self._folder, place)  # noqa: PTH118  # measured: pathlib takes 6 times as long
        status = os.stat(here)  # noqa: PTH116
        key = (status.st_dev, status.st_ino)
        if key in seen:
            return  # a link that leads back up, or to a neighbour
        seen.add(key)
        if key in self._all_seen:
            self._twice.add(place)
        self._all_seen.add(key)
        self._changed[here] = status.st_mtime_ns
        with os.scandir(here) as entries:
            found = sorted((entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith("."))
        for name in (name for name, is_folder in found if not is_folder):
            if is_image(name):
                self._counts[top] += 1
                if place == top:
                    self._direct.add(top)
                yield os.path.join(place, name)  # noqa: PTH118
            else:
                self._left_out[os.path.splitext(name)[1].lower() or "without suffix"] += 1  # noqa: PTH122
        for name in (name for name, is_folder in found if is_folder):
            self._counts.setdefault(top or name, 0)
            below = seen if top else {key}  # each sub-folder, which may be a class, has all of its images
            yield from self._images(os.path.join(place, name), top or name, below)  # noqa: PTH118


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False

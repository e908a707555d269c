"""Folders of image files."""

import bisect
import functools
import itertools
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ssltyped.config import config_for
from ssltyped.data.decode import EXTENSIONS, WHITE, Colour, decode
from ssltyped.data.index import PathIndex
from ssltyped.data.listing import listing
from ssltyped.types import Image, Source, UnreadableImageError

MOST_NAMED = 10
"""Folders that a sentence names."""


def read_file(path: Path, background: Colour) -> Image:
    """The decoded image; whatever goes wrong is an `UnreadableImageError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImageError("no file, but a folder, pipe or device")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise UnreadableImageError(getattr(error, "strerror", None) or str(error)) from error
    return decode(data, background)


def need_folder(path: Path) -> None:
    if not path.is_dir():
        raise ValueError(f"{path} {'is a file, not a folder' if path.exists() else 'does not exist'}")


def no_images(path: Path) -> ValueError:
    return ValueError(f"{path} holds no image (looked, also in sub-folders, for {' '.join(EXTENSIONS)})")


def not_classes(folder: Path) -> str:
    """Why the sub-folders of a folder are not the classes of its images; empty if they are."""
    found = listing(folder)
    if found.counts[""]:
        return "images lie in it directly, so its folders are no classes"
    if empty := found.empty:
        names = ", ".join(empty[:MOST_NAMED]) + ", ..." * (len(empty) > MOST_NAMED)
        return f"not every sub-folder holds images ({names}), so they are no classes"
    if len(found.folders) == 1:
        return f"one sub-folder ({found.folders[0]}) is no set of classes"
    if not found.direct:
        example = Path(found.files[0]).parent
        outer = f"source=ImageFolder with its path takes {found.folders[0]}"
        return f"images lie deeper than one folder ({example}), so which folder is the class is not clear: {outer}"
    return ""


def left_out(folder: Path) -> Sequence[str]:
    """In a sentence, what was left out of a folder, if anything was."""
    remark = listing(folder).remark() if folder.is_dir() else ""
    return [f"{folder}: {remark}"] if remark else []


class FlatFolder(Source):
    """All images in a folder and its sub-folders, without labels, sorted by path.

    The folder is searched on first use. Raises ValueError then if it does not exist or holds no image.

    Args:
        path: the folder
        background: red, green and blue (0 to 255) of what is transparent
    """

    def __init__(self, *, path: Path, background: Colour = WHITE) -> None:
        self.path, self.background = path, background

    @functools.cached_property
    def _index(self) -> PathIndex:
        need_folder(self.path)
        index = listing(self.path).distinct()
        if not len(index):
            raise no_images(self.path)
        return index

    def __len__(self) -> int:
        return len(self._index)

    def read(self, index: int) -> Image:
        return read_file(self.path / self._index[index], self.background)

    def name(self, index: int) -> str:
        return str(self.path / self._index[index])

    @property
    def remarks(self) -> Sequence[str]:
        return left_out(self.path)

    @property
    def why_unlabelled(self) -> str:
        why = not_classes(self.path) or "it is read as a FlatFolder; an ImageFolder has its sub-folders for classes"
        return f"{self.path}: {why}"


class ClassFolders(NamedTuple):
    """The images of a folder of class folders: those of class c are starts[c] to starts[c + 1] of the files."""

    files: PathIndex
    classes: tuple[str, ...]
    starts: Sequence[int]


class ImageFolder(Source):
    """A folder with one sub-folder a class; label = place of the sub-folder's name in the sorted names.

    The images of a class may lie deeper in its folder. The order is by class, then by path. The folder is
    searched on first use. Raises ValueError then if it does not exist, has no sub-folder, or if one of
    them holds no image (the labels of two splits would not agree).

    Args:
        path: the folder of class folders
        background: red, green and blue (0 to 255) of what is transparent
    """

    def __init__(self, *, path: Path, background: Colour = WHITE) -> None:
        self.path, self.background = path, background

    @functools.cached_property
    def _scanned(self) -> ClassFolders:
        need_folder(self.path)
        found = listing(self.path)
        classes = tuple(found.folders)
        if not classes:
            raise ValueError(f"{self.path} has no sub-folders, which would be the classes; use FlatFolder")
        if found.empty:
            raise ValueError(f"no image in these class folders of {self.path}: {', '.join(found.empty[:MOST_NAMED])}")
        return ClassFolders(found.files, classes, list(itertools.accumulate(found.counts.values())))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; the label is the place in this."""
        return self._scanned.classes

    def __len__(self) -> int:
        return self._scanned.starts[-1] - self._scanned.starts[0]

    def _file(self, index: int) -> Path:
        # Images beside the class folders come first, and have no class.
        return self.path / self._scanned.files[index + self._scanned.starts[0]]

    def read(self, index: int) -> Image:
        return read_file(self._file(index), self.background)

    def name(self, index: int) -> str:
        return str(self._file(index))

    @property
    def remarks(self) -> Sequence[str]:
        return left_out(self.path)

    def label(self, index: int) -> int:
        starts = self._scanned.starts
        return bisect.bisect_right(starts, index + starts[0]) - 1


FlatFolderConf = config_for(FlatFolder)
ImageFolderConf = config_for(ImageFolder)

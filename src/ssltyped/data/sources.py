"""Folders of image files."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ssltyped.config import config_for
from ssltyped.data.decode import EXTENSIONS, decode
from ssltyped.data.index import PathIndex, write_index
from ssltyped.types import Image, Source, UnreadableImageError


def is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def image_files(folder: Path) -> Iterator[str]:
    """Paths, relative to `folder`, of all images below it; sorted, links followed, hidden files and folders left out.

    Raises OSError for a folder that may not be read.
    """
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()  # a link that leads back up
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.relpath(os.path.join(root, name), folder) for name in sorted(files) if is_image(name))  # noqa: PTH118  # measured: pathlib takes 6 times as long


def _raise(error: OSError) -> None:
    raise error


def sub_folders(folder: Path) -> list[str]:
    """Names of the folders directly in `folder`, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def read_file(path: Path) -> Image:
    """The decoded image; whatever goes wrong is an `UnreadableImageError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    return decode(data)


def need_folder(path: Path) -> None:
    if not path.is_dir():
        raise ValueError(f"{path} {'is a file, not a folder' if path.exists() else 'does not exist'}")


def no_images(path: Path) -> ValueError:
    return ValueError(f"{path} holds no image (looked, also in sub-folders, for {' '.join(EXTENSIONS)})")


class FlatFolder(Source):
    """All images in a folder and its sub-folders, without labels, sorted by path.

    The folder is searched once, on first use. Raises ValueError then if it does not exist or holds no image.

    Args:
        path: the folder
    """

    def __init__(self, *, path: Path) -> None:
        self.path = path

    @functools.cached_property
    def _index(self) -> PathIndex:
        need_folder(self.path)
        index = write_index(image_files(self.path))
        if not len(index):
            raise no_images(self.path)
        return index

    def __len__(self) -> int:
        return len(self._index)

    def read(self, index: int) -> Image:
        return read_file(self.path / self._index[index])

    def name(self, index: int) -> str:
        return str(self.path / self._index[index])


class ClassFolders(NamedTuple):
    """The images of a folder of class folders: those of class c are starts[c] to starts[c + 1]."""

    files: PathIndex
    classes: tuple[str, ...]
    starts: Int64[np.ndarray, "K1"]


class ImageFolder(Source):
    """A folder with one sub-folder a class; label = place of the sub-folder's name in the sorted names.

    The images of a class may lie deeper in its folder. The order is by class, then by path. The folder is
    searched once, on first use. Raises ValueError then if it does not exist, has no sub-folder, or if one of
    them holds no image (the labels of two splits would not agree).

    Args:
        path: the folder of class folders
    """

    def __init__(self, *, path: Path) -> None:
        self.path = path

    @functools.cached_property
    def _scanned(self) -> ClassFolders:
        need_folder(self.path)
        classes = tuple(sub_folders(self.path))
        if not classes:
            raise ValueError(f"{self.path} has no sub-folders, which would be the classes; use FlatFolder")
        counts = [0] * len(classes)
        files = write_index(self._all(classes, counts))
        if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
            raise ValueError(f"no image in these class folders of {self.path}: {', '.join(empty[:10])}")
        return ClassFolders(files, classes, np.cumsum([0, *counts]))

    def _all(self, classes: tuple[str, ...], counts: list[int]) -> Iterator[str]:
        for label, name in enumerate(classes):
            for file in image_files(self.path / name):
                counts[label] += 1
                yield f"{name}/{file}"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; the label is the place in this."""
        return self._scanned.classes

    def __len__(self) -> int:
        return len(self._scanned.files)

    def read(self, index: int) -> Image:
        return read_file(self.path / self._scanned.files[index])

    def name(self, index: int) -> str:
        return str(self.path / self._scanned.files[index])

    def label(self, index: int) -> int:
        return int(np.searchsorted(self._scanned.starts, index, side="right")) - 1


FlatFolderConf = config_for(FlatFolder)
ImageFolderConf = config_for(ImageFolder)

"""A file that lists images."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np
from jaxtyping import Integer, Shaped

from ssltyped.config import config_for
from ssltyped.config.hints import listed
from ssltyped.data.decode import WHITE, Colour
from ssltyped.data.index import PathIndex, save_mapped
from ssltyped.data.lines import LineIndex, in_utf8, index_list, labelled, lines, path_of, read_labels
from ssltyped.data.sources import read_file
from ssltyped.types import Image, Source


def _load_array(path: Path, most_dims: int = 1) -> Shaped[np.ndarray, "N ..."]:
    """A `.npy` with one entry an image, memory-mapped. Raises ValueError for one that holds Python objects."""
    try:
        array: Shaped[np.ndarray, "N ..."] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; save paths as text: np.save(file, np.array(paths, dtype=str))") from error
    if not 1 <= array.ndim <= most_dims:
        raise ValueError(f"{path} has shape {array.shape}; it must have one entry an image")
    return array


def _as_npy(labels: Path) -> Path:
    """The label file, or what a text file of labels holds as a `.npy`."""
    return labels if labels.suffix == ".npy" else save_mapped(read_labels(labels))


def load_labels(path: Path, num_images: int, most_dims: int) -> Integer[np.ndarray, "N ..."]:
    """The labels of N images, or a row of them each with `most_dims` 2. Raises ValueError if they are not that."""
    if not path.is_file():
        raise ValueError(f"labels: {path} does not exist")
    labels = _load_array(_as_npy(path), most_dims)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels: {path} holds {labels.dtype}; labels are whole numbers")
    if len(labels) != num_images:
        what = f"labels: {path} holds {labels.dtype} of shape {labels.shape}"
        raise ValueError(f"{what}: {len(labels)} labels for {num_images} images")
    return labels


class ImageList(Source):
    """The images that a file lists, in its order; read in place, by memory mapping.

    - `.npy`: an array of N paths (a text type, not objects).
    - any other file: text (UTF-8, or UTF-16 with a byte order mark), one image a line. If the first line ends in a
      separator (spaces, tabs, a comma or semicolon) and a whole number, every line is `path label`; otherwise, or when
      `labels` is given, every line is a path. Either may be in quotes. Blank lines and those that begin with # are left
      out, and a first line without the suffix of an image before others that have one is a header.

    Relative paths are below `root`. Raises ValueError on first use if a file is missing, empty or malformed, or
    if the number of labels is not the number of images.

    Args:
        path: the list
        labels: N labels: a .npy of whole numbers, or of rows of them, one a class (1: there, 0: not, -1: unknown); or
            text with one a line; null: those in the list, if any
        root: what relative paths are relative to; null: the folder of the list
        class_names: names of the classes, one a line, in the order of their numbers; null: they have none
        background: red, green and blue (0 to 255) of what is transparent
    """

    def __init__(
        self,
        *,
        path: Path,
        labels: Optional[Path] = None,
        root: Optional[Path] = None,
        class_names: Optional[Path] = None,
        background: Colour = WHITE,
    ) -> None:
        self.path, self.labels, self.root = path, labels, root
        self.class_names, self.background = class_names, background

    def __getstate__(self) -> dict[str, object]:
        # A memory map pickles as a copy of all it maps.
        kept = ("path", "labels", "root", "class_names", "background", "_lines")
        return {name: value for name, value in vars(self).items() if name in kept}

    @functools.cached_property
    def _lines(self) -> tuple[LineIndex, Optional[str]]:
        """Of a text file: its entries and its header."""
        return index_list(self.path, paths_only=self.labels is not None)

    @functools.cached_property
    def _entries(self) -> Union[PathIndex, Shaped[np.ndarray, "N"]]:
        if not self.path.is_file():
            raise ValueError(f"{self.path} {'is a folder, not a list' if self.path.exists() else 'does not exist'}")
        entries = _load_array(self.path) if self.path.suffix == ".npy" else self._lines[0]
        if isinstance(entries, np.ndarray) and entries.dtype.kind not in "US":
            raise ValueError(f"{self.path} holds {entries.dtype}; it must hold paths as text")
        if not len(entries):
            raise ValueError(f"{self.path} lists no image")
        return entries

    @functools.cached_property
    def _labels(self) -> Optional[Integer[np.ndarray, "N ..."]]:
        """The labels of the label file."""
        return None if self.labels is None else load_labels(self.labels, len(self), most_dims=2)

    @functools.cached_property
    def _labels_in_list(self) -> bool:
        return self.labels is None and self.path.suffix != ".npy" and labelled(self._entry(0))[1] is not None

    def _entry(self, index: int) -> str:
        entry: Union[str, bytes] = self._entries[index]
        return entry.decode() if isinstance(entry, bytes) else str(entry)

    def _file(self, index: int) -> Path:
        entry = self._entry(index)
        if self.path.suffix != ".npy":
            entry = labelled(entry)[0] if self._labels_in_list else path_of(entry)
        return (self.path.parent if self.root is None else self.root) / entry

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, index: int) -> Image:
        return read_file(self._file(index), self.background)

    def name(self, index: int) -> str:
        return str(self._file(index))

    @property
    def labelled(self) -> bool:
        return self._labels is not None or self._labels_in_list

    @functools.cached_property
    def _classes(self) -> tuple[str, ...]:
        if self.class_names is None:
            return ()
        if not self.class_names.is_file():
            raise ValueError(f"class_names: {self.class_names} does not exist")
        names = tuple(line.content.decode() for line in lines(in_utf8(self.class_names)))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"class_names: {self.class_names} has {listed(twice)} more than once")
        return names

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def remarks(self) -> Sequence[str]:
        header = self._lines[1] if self.path.suffix != ".npy" and self.path.is_file() else None
        return [f"{self.path}: its first line is taken for a header: {header}"] if header else []

    @property
    def why_unlabelled(self) -> str:
        return f"{self.path}: its first line ends in no whole number, and there is no file of labels"

    def label(self, index: int) -> int | list[int]:
        found: Optional[int | list[int]]
        found = labelled(self._entry(index))[1] if self._labels is None else self._labels[index].tolist()
        assert found is not None
        if self._classes and (len(found) if isinstance(found, list) else found + 1) > len(self._classes):
            raise ValueError(f"{self.name(index)}: {found} is no class: {self.class_names} names {len(self._classes)}")
        return found


ImageListConf = config_for(ImageList)

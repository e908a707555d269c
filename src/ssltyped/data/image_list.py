"""A file that lists images."""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np
from jaxtyping import Integer, Shaped

from ssltyped.config import config_for
from ssltyped.config.hints import listed, shown
from ssltyped.data.decode import WHITE, Colour
from ssltyped.data.index import PathIndex, load_array
from ssltyped.data.label_file import load_labels
from ssltyped.data.lines import Line, Listed, in_utf8, index_list, labelled, lines, path_of
from ssltyped.data.sources import read_file
from ssltyped.types import Image, Label, Source


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
    def _lines(self) -> Optional[Listed]:
        """What a text file holds; None for an array."""
        if self.path.suffix.lower() == ".npy":
            return None
        listed = index_list(self.path, paths_only=self.labels is not None)
        if len(listed.entries) and (fault := self._unlike_a_path(listed.entries[0], listed.labels is not None)):
            raise ValueError(f"{self.path}, line {listed.entries.number(0)}: {fault}")
        return listed

    def _unlike_a_path(self, entry: str, has_label: bool) -> str:
        """What is wrong with an entry that names no file, where a part of it does: a column stands before the path."""
        path = labelled(entry)[0] if has_label else path_of(entry)
        if self._is_file(path):
            return ""
        behind = (path_of(path[separator.end() :]) for separator in re.finditer(r"[\s,;]+", path))
        named = next(filter(self._is_file, behind), None)
        return f"{shown(entry)} begins with more than the path; {named} is there" if named else ""

    def _is_file(self, path: str) -> bool:
        return os.path.isfile(self._below / path)  # noqa: PTH113  # pathlib's raises for a name that is too long

    @property
    def _below(self) -> Path:
        """What relative paths are relative to."""
        return self.path.parent if self.root is None else self.root

    @functools.cached_property
    def _entries(self) -> Union[PathIndex, Shaped[np.ndarray, "N"]]:
        if not self.path.is_file():
            raise ValueError(f"{self.path} {'is a folder, not a list' if self.path.exists() else 'does not exist'}")
        entries = load_array(self.path) if self._lines is None else self._lines.entries
        if isinstance(entries, np.ndarray) and entries.dtype.kind not in "US":
            raise ValueError(f"{self.path} holds {entries.dtype}; it must hold paths as text")
        if isinstance(entries, np.ndarray) and entries.ndim != 1:
            raise ValueError(f"{self.path} has shape {entries.shape}; it must have one entry an image")
        if not len(entries):
            raise ValueError(f"{self.path} lists no image")
        return entries

    @functools.cached_property
    def _labels(self) -> Optional[Integer[np.ndarray, "N ..."]]:
        """Those of the label file, or in the list. Raises ValueError if one is no class that has a name."""
        self._entries  # noqa: B018  # what is wrong with the list is told first
        if self.labels is not None:
            labels = load_labels(self.labels, len(self), most_dims=2)
        elif self._lines is not None and self._lines.labels is not None:
            labels = load_array(self._lines.labels)
        else:
            return None
        if self._classes:
            self._check_named(labels, len(self._classes))
        return labels

    def _check_named(self, labels: Integer[np.ndarray, "N ..."], num_classes: int) -> None:
        """Raises ValueError if a label is no class that has a name."""
        names = f"{self.class_names} names {num_classes}"
        if labels.ndim > 1 and labels.shape[1] != num_classes:
            raise ValueError(f"{self.labels}: its rows have {labels.shape[1]} classes; {names}")
        if labels.ndim == 1 and (label := labels.max()) >= num_classes:
            raise ValueError(f"{self._place(int(labels.argmax()))}: {label} is no class: {names}, from 0")

    def _place(self, index: int) -> str:
        """Where the label of an image stands."""
        if self.labels is None and self._lines is not None:
            return f"{self.path}, line {self._lines.entries.number(index)}"
        return f"{self.labels}, label {index + 1}"

    def _file(self, index: int) -> Path:
        entry: Union[str, bytes] = self._entries[index]
        path = os.fsdecode(entry)
        if self._lines is not None:
            path = path_of(path) if self._lines.labels is None else labelled(path)[0]
        return self._below / path

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, index: int) -> Image:
        return read_file(self._file(index), self.background)

    def name(self, index: int) -> str:
        return str(self._file(index))

    @property
    def labelled(self) -> bool:
        return self._labels is not None

    @functools.cached_property
    def _classes(self) -> tuple[str, ...]:
        if self.class_names is None:
            return ()
        if not self.class_names.is_file():
            raise ValueError(f"class_names: {self.class_names} does not exist")
        names = tuple(map(self._class_name, lines(in_utf8(self.class_names))))
        if not names:
            raise ValueError(f"class_names: {self.class_names} is empty")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"class_names: {self.class_names} has {listed(twice)} more than once")
        return names

    def _class_name(self, line: Line) -> str:
        try:
            return line.content.decode()
        except UnicodeDecodeError as error:
            message = "is no text in UTF-8: save it as UTF-8"
            raise ValueError(f"class_names: {self.class_names}, line {line.number}: {message}") from error

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def remarks(self) -> Sequence[str]:
        header = self._lines.header if self.path.is_file() and self._lines is not None else None
        return [f"{self.path}: its first line is taken for a header: {header}"] if header else []

    @property
    def why_unlabelled(self) -> str:
        return f"{self.path}: its first line ends in no whole number, and there is no file of labels"

    def label(self, index: int) -> Label:
        assert self._labels is not None
        label: Label = self._labels[index].tolist()
        return label


ImageListConf = config_for(ImageList)

"""Labels that lie in a file of their own."""

import os
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
from jaxtyping import Integer

from ssltyped.config.hints import shown
from ssltyped.data.index import load_array, save_mapped
from ssltyped.data.lines import QUOTES, Line, in_utf8, lines
from ssltyped.types.labels import MOST

NUMBER = re.compile(rb"[+-]?\d+")
CLASS, ROW = f"a class is a number from 0 to {MOST}", "a row has 1, 0 or -1 for each class"


def load_labels(path: Path, num_images: int, most_dims: int) -> Integer[np.ndarray, "N ..."]:
    """The labels of N images, or a row of them each with `most_dims` 2. Raises ValueError if they are not that."""
    if not path.is_file():
        raise ValueError(f"labels: {path} {'is no file' if path.exists() else 'does not exist'}")
    labels = load_array(path if path.suffix.lower() == ".npy" else save_mapped(read_labels(path)))
    what = f"labels: {path} holds {labels.dtype} of shape {labels.shape}"
    if not 1 <= labels.ndim <= most_dims:
        raise ValueError(f"{what}; it must have one entry an image")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels: {path} holds {labels.dtype}; labels are whole numbers")
    if len(labels) != num_images:
        raise ValueError(f"{what}: {len(labels)} labels for {num_images} images")
    low, high, allowed = (0, MOST, CLASS) if labels.ndim == 1 else (-1, 1, ROW)
    if not labels.size or labels.min() < low or labels.max() > high:
        first = np.argwhere((labels < low) | (labels > high))[:1].tolist()
        raise ValueError(f"{what}: {f'entry {first[0]} is {labels[tuple(first[0])]}; ' if first else ''}{allowed}")
    return labels


def read_labels(text: Path) -> Integer[np.ndarray, "N ..."]:
    """The whole numbers of a text file, one a line, or K a line for rows; its first line may be a header.

    Raises ValueError for what is no class from 0, no row of 1, 0 and -1, and for lines of different lengths.
    """
    values: array[int] = array("q")
    width = 0
    header: Optional[Line] = None
    for line in lines(in_utf8(text)):
        words = [word.strip(QUOTES) for word in re.split(rb"[\s,;]+", line.content) if word]
        if not words or not all(map(NUMBER.fullmatch, words)):
            if header is None and not values:
                header = line
                continue
            raise ValueError(_no_label(text, line, "labels are whole numbers, one a line"))
        if values and len(words) != width:
            raise ValueError(_no_label(text, line, f"{len(words)} numbers, and {width} in the lines before"))
        width = len(words)
        values.extend(_numbers(text, line, words))
    if header is not None and not values:
        raise ValueError(_no_label(text, header, "labels are whole numbers, one a line"))
    table = np.array(values, dtype=np.int64)
    return table.reshape(-1, width) if width > 1 else table


def _numbers(text: Path, line: Line, words: Sequence[bytes]) -> list[int]:
    """A class, or a row of them. Raises ValueError for numbers that are no label."""
    row = [int(word) for word in words if len(word) <= len(str(MOST))]
    if len(words) == 1 and not (row and 0 <= row[0] <= MOST):
        raise ValueError(_no_label(text, line, CLASS))
    if len(words) > 1 and (len(row) < len(words) or not {1, 0, -1}.issuperset(row)):
        raise ValueError(_no_label(text, line, ROW))
    return row


def _no_label(text: Path, line: Line, message: str) -> str:
    return f"labels: {text}, line {line.number}: {shown(os.fsdecode(line.content))}: {message}"

"""Text files of one entry a line, as people's tools write them."""

import hashlib
import os
import re
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from jaxtyping import Integer

from ssltyped.data.decode import EXTENSIONS
from ssltyped.data.index import PathIndex, cache_folder, save_mapped

BOM, COMMENT = b"\xef\xbb\xbf", b"#"
SEPARATORS, QUOTES = b" \t\r\f\v,;", b"\"'"
WIDE = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""How files of two bytes a character begin, which Windows writes."""

ENTRY = re.compile(rb"""(?:(["'])(?P<quoted>.*?)\1|(?P<plain>.*?[^\s,;]))(?:[\s,;]+(["']?)(?P<label>\d+)\4)?[\s,;]*""")
"""A path, in quotes or not, and perhaps a separator (blanks, tabs, a comma or semicolon) and a whole number."""

SUFFIXES = tuple(suffix.encode() for suffix in EXTENSIONS)

MORE = re.compile(
    rb"(?i)(?:" + b"|".join(re.escape(suffix.encode()) for suffix in EXTENSIONS) + rb")[\"']?[\s,;|]+[^\s,;|]"
)
"""A path of an image and something behind it."""


class Line(NamedTuple):
    """A line that is neither blank nor a comment: its number from 1, its first byte in the file, what it holds."""

    number: int
    start: int
    content: bytes


class LineIndex(PathIndex):
    """Lines of a text file: each string is the first line of its part of the text, without blanks around it."""

    def __getitem__(self, index: int) -> str:
        return super().__getitem__(index).partition("\n")[0].strip()


def lines(text: Path) -> Iterator[Line]:
    """The lines of a file that are neither blank nor comments (which begin with #), without blanks around them."""
    start = 0
    with text.open("rb") as file:
        for number, line in enumerate(file, 1):
            mark = len(BOM) if number == 1 and line.startswith(BOM) else 0
            content = line[mark:].strip()
            if content and not content.startswith(COMMENT):
                yield Line(number, start + mark, content)
            start += len(line)


def in_utf8(text: Path) -> Path:
    """The file, or a copy in the cache if its characters have two bytes, or its lines end in carriage returns only.

    Raises ValueError for what is no text.
    """
    with text.open("rb") as file:
        begin = file.read(1 << 16)
    if begin[:2] not in WIDE and (b"\r" not in begin or b"\n" in begin):
        return text
    try:
        data = text.read_bytes().decode(WIDE.get(begin[:2], "utf-8"), "surrogateescape")
    except UnicodeDecodeError as error:
        raise ValueError(f"{text} is no text: {error}") from error
    folder, content = cache_folder(), os.fsencode(data.replace("\r\n", "\n").replace("\r", "\n"))
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as temporary:
        temporary.write(content)
    copy = folder / f"{hashlib.sha256(content).hexdigest()}.lines"
    Path(temporary.name).replace(copy)
    return copy


def path_of(entry: str) -> str:
    """The path of an entry that has no label: without quotes around it."""
    return entry[1:-1] if len(entry) > 1 and entry[0] == entry[-1] and entry[0] in "\"'" else entry


def labelled(entry: str) -> tuple[str, Optional[int]]:
    """The path of an entry and its label, if it has one."""
    match = ENTRY.fullmatch(os.fsencode(entry))
    if match is None or match["label"] is None:
        return path_of(entry), None
    return os.fsdecode(match["plain"] if match["quoted"] is None else match["quoted"]), int(match["label"])


def index_list(text: Path, *, paths_only: bool) -> tuple[LineIndex, Optional[str]]:
    """The lines of a list of images, and the header, if it has one: a first line without a file's suffix.

    Raises ValueError if not all lines are a path, or all a path and a label; with `paths_only` every line is a path.
    """
    source, header = in_utf8(text), None
    starts = array("q")  # 8 bytes an entry
    first: Optional[Line] = None
    has_labels = False
    for line in lines(source):
        if first is not None and len(starts) == 1 and header is None and _is_header(first.content, line.content):
            header, first = os.fsdecode(first.content), None
            starts.pop()
        if first is None:
            first, has_labels = line, _has_label(line.content)
        starts.append(line.start)
        if not paths_only and (wrong := _wrong(line.content, has_labels)):
            raise ValueError(f"{text}, line {line.number}: {os.fsdecode(line.content)!r} {wrong}")
    starts.append(source.stat().st_size)
    return LineIndex(text=source, starts=save_mapped(np.array(starts))), header


def _has_label(content: bytes) -> bool:
    """Whether a line ends in a separator and a whole number, as `ENTRY` says; without it where possible, for speed."""
    end = content.strip(SEPARATORS)
    if end.strip(QUOTES) != end:
        match = ENTRY.fullmatch(content)
        return match is not None and match["label"] is not None
    path = end.rstrip(b"0123456789")
    return len(path) < len(end) and path.strip(SEPARATORS) not in (b"", path)


def _wrong(content: bytes, expected: bool) -> str:
    """What is wrong with a line of a list whose first line has a label, or has none; empty if nothing is."""
    has_label = _has_label(content)
    path = content.strip(SEPARATORS)
    path = path.strip(QUOTES).rstrip(b"0123456789").strip(SEPARATORS + QUOTES) if has_label else path
    if not path.strip(QUOTES).lower().endswith(SUFFIXES) and MORE.search(path):
        return "holds more than a path, or a path and a whole number, which is its label"
    if has_label == expected:
        return ""
    return "has no label; the first line has one" if expected else "has a label; the first line has none"


def _is_header(first: bytes, second: bytes) -> bool:
    """Whether a first line is of plain words and the second one names an image: no path, and no number, is a header."""
    words = [word.strip(QUOTES) for word in re.split(rb"[\s,;]+", first) if word.strip(QUOTES)]
    plain = not any(b"." in word or b"/" in word or word.lstrip(b"+-").isdigit() for word in words)
    return plain and _names_image(second) and not _names_image(first)


def _names_image(content: bytes) -> bool:
    return labelled(os.fsdecode(content))[0].lower().endswith(EXTENSIONS)


def read_labels(text: Path) -> Integer[np.ndarray, "N ..."]:
    """The whole numbers of a text file, one a line, or K a line for rows; its first line may be a header.

    Raises ValueError for what is no whole number, and for lines of different lengths.
    """
    values: array[int] = array("q")
    width = 0
    header: Optional[Line] = None
    for line in lines(in_utf8(text)):
        words = [word.strip(b"\"'") for word in re.split(rb"[\s,;]+", line.content) if word]
        try:
            row = [int(word) for word in words]
        except ValueError as error:
            if header is None and not values:
                header = line
                continue
            raise ValueError(_no_label(text, line, "labels are whole numbers, one a line")) from error
        if values and len(row) != width:
            raise ValueError(_no_label(text, line, f"{len(row)} numbers, and {width} in the lines before"))
        width = len(row)
        values.extend(row)
    if header is not None and not values:
        raise ValueError(_no_label(text, header, "labels are whole numbers, one a line"))
    table = np.array(values, dtype=np.int64)
    return table.reshape(-1, width) if width > 1 else table


def _no_label(text: Path, line: Line, message: str) -> str:
    return f"labels: {text}, line {line.number}: {os.fsdecode(line.content)!r}: {message}"

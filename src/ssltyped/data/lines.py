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

from ssltyped.config.hints import shown
from ssltyped.data.decode import EXTENSIONS
from ssltyped.data.index import PathIndex, cache_folder, save_mapped
from ssltyped.types.labels import MOST

BOM, COMMENT = b"\xef\xbb\xbf", b"#"
SEPARATORS, QUOTES = b" \t\r\f\v,;", b"\"'"
WIDE = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""How files of two or four bytes a character begin, which Windows writes."""

ENTRY = re.compile(rb"""(?:(["'])(?P<quoted>.*?)\1|(?P<plain>.*?[^\s,;]))(?:[\s,;]+(["']?)(?P<label>\d+)\4)?[\s,;]*""")
"""A path, in quotes or not, and perhaps a separator (blanks, tabs, a comma or semicolon) and a whole number."""

SUFFIXES = tuple(suffix.encode() for suffix in EXTENSIONS)

MORE = re.compile(
    rb"(?i)(?:" + b"|".join(re.escape(suffix.encode()) for suffix in EXTENSIONS) + rb")[\"']?[\s,;|]+[^\s,;|]"
)
"""A path of an image and something behind it."""

NUMBERED = re.compile(rb"""(?:\d+|"\d+"|'\d+')[ \t]*[,;\t]\s*(?!["']?\d+["']?[\s,;]*$)[^\s,;]""")
"""A number, a comma, semicolon or tab, and more than a number: only a path in quotes begins so."""


class Line(NamedTuple):
    """A line that is neither blank nor a comment: its number from 1, its first byte in the file, what it holds."""

    number: int
    start: int
    content: bytes


class LineIndex(PathIndex):
    """Lines of a text file: each string is the first line of its part of the text, without blanks around it."""

    def __getitem__(self, index: int) -> str:
        return super().__getitem__(index).partition("\n")[0].strip()

    def number(self, index: int) -> int:
        """Which line of the file it is, from 1."""
        return 1 + self._bytes[: self._offsets[index]].count(b"\n")


class Listed(NamedTuple):
    """What a list of images holds: its entries, a `.npy` of their labels, and a header; None: it has none."""

    entries: LineIndex
    labels: Optional[Path]
    header: Optional[str]


def lines(text: Path) -> Iterator[Line]:
    """The lines of a file that are neither blank nor comments (which begin with #), without blanks around them.

    Raises ValueError for what is no text in UTF-8.
    """
    start = 0
    with text.open("rb") as file:
        for number, line in enumerate(file, 1):
            if b"\0" in line:
                raise ValueError(f"{text}, line {number}: is no text in UTF-8, it holds zero bytes: save it as UTF-8")
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
    wide = next((encoding for mark, encoding in WIDE.items() if begin.startswith(mark)), None)
    if wide is None and (b"\r" not in begin or b"\n" in begin):
        return text
    try:
        data = text.read_bytes().decode(wide or "utf-8", "surrogateescape")
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


def index_list(text: Path, *, paths_only: bool) -> Listed:
    """The entries of a list of images, and the header, if it has one: a first line without a file's suffix.

    Raises ValueError, with the number of the line, if not all lines are a path, or all a path and a label; with
    `paths_only` every line is a path.
    """
    source, header = in_utf8(text), None
    starts, labels = array("q"), array("q")  # 8 bytes an entry each
    first: Optional[Line] = None
    has_labels = False
    for line in lines(source):
        if first is not None and len(starts) == 1 and header is None and _is_header(first.content, line.content):
            header, first = os.fsdecode(first.content), None
            starts.pop()
        if first is None:
            first, has_labels = line, not paths_only and bool(_label(line.content))
        label = b"" if paths_only else _label(line.content)
        if wrong := _more_than_a_path(line.content, label, paths_only) or _unlike_the_first(label, has_labels):
            raise ValueError(f"{text}, line {line.number}: {shown(os.fsdecode(line.content))} {wrong}")
        starts.append(line.start)
        if label:
            labels.append(int(label))
    starts.append(source.stat().st_size)
    entries = LineIndex(text=source, starts=save_mapped(np.array(starts)))
    return Listed(entries, save_mapped(np.array(labels)) if labels else None, header)


def _label(content: bytes) -> bytes:
    """The whole number at the end of a line, behind a separator, as `ENTRY` says; without it where possible, for speed.

    Empty if there is none.
    """
    end = content.strip(SEPARATORS)
    if end.strip(QUOTES) != end:
        match = ENTRY.fullmatch(content)
        return b"" if match is None else match["label"] or b""
    path = end.rstrip(b"0123456789")
    return end[len(path) :] if path.strip(SEPARATORS) not in (b"", path) else b""


def _more_than_a_path(content: bytes, label: bytes, paths_only: bool) -> str:
    """What a line holds beside a path and its label; empty if nothing."""
    path = content.strip(SEPARATORS)
    path = path.strip(QUOTES).rstrip(b"0123456789").strip(SEPARATORS + QUOTES) if label else path
    if NUMBERED.match(content):
        return "begins with a number: the path comes first, in quotes if it begins so, and then its label"
    if not path.strip(QUOTES).lower().endswith(SUFFIXES) and MORE.search(path):
        allowed = (
            ", and the labels have their own file"
            if paths_only
            else ", or a path and a whole number, which is its label"
        )
        return f"holds more than a path{allowed}"
    return ""


def _unlike_the_first(label: bytes, expected: bool) -> str:
    """What is wrong with the label of a line of a list whose first line has one, or has none; empty if nothing is."""
    if len(label) > len(str(MOST)) or (label and int(label) > MOST):
        return f"has a label above {MOST}, which is the largest"
    if bool(label) == expected:
        return ""
    return "has no label; the first line has one" if expected else "has a label; the first line has none"


def _is_header(first: bytes, second: bytes) -> bool:
    """Whether a first line is of plain words and the second one names an image: no path, and no number, is a header."""
    words = [word.strip(QUOTES) for word in re.split(rb"[\s,;]+", first) if word.strip(QUOTES)]
    plain = not any(b"." in word or b"/" in word or word.lstrip(b"+-").isdigit() for word in words)
    return plain and _names_image(second) and not _names_image(first)


def _names_image(content: bytes) -> bool:
    return labelled(os.fsdecode(content))[0].lower().endswith(EXTENSIONS)

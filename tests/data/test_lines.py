import codecs
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssltyped.data.lines import _label, index_list, labelled


def entries(text: Path, data: bytes, *, paths_only: bool = False) -> list[str]:
    text.write_bytes(data)
    index = index_list(text, paths_only=paths_only).entries
    return [index[i] for i in range(len(index))]


PLAIN = "ä 1.jpg 3\nb/c d.png 0\nlast.tif 12"


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        (PLAIN + "\n").encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        codecs.BOM_UTF8 + PLAIN.encode(),
        codecs.BOM_UTF8 + PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n").encode("utf-16"),
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        ("\n\n" + PLAIN.replace("\n", "\n  \n\n") + "\n \n\n").encode(),
        ("# made by hand\n" + PLAIN.replace("\n", "\n#b.jpg 7\n")).encode(),
        ("  " + PLAIN.replace("\n", "  \n\t")).encode(),
        ("path label\n" + PLAIN).encode(),
        (codecs.BOM_UTF8.decode() + "path,label\r\n\r\n# x\r\n" + PLAIN.replace("\n", "\r\n")).encode(),
    ],
)
def test_the_same_list_however_it_was_written(tmp_path: Path, data: bytes) -> None:
    got = [labelled(entry) for entry in entries(tmp_path / "list.txt", data)]
    assert got == [("ä 1.jpg", 3), ("b/c d.png", 0), ("last.tif", 12)]


@pytest.mark.parametrize(
    "line, path",
    [
        ("a b.jpg 3", "a b.jpg"),
        ("a b.jpg\t3", "a b.jpg"),
        ("a b.jpg,3", "a b.jpg"),
        ("a b.jpg; 3", "a b.jpg"),
        ('"a b, c.jpg",3', "a b, c.jpg"),
        ("'a b.jpg' 3", "a b.jpg"),
        ('"a b.jpg","3"', "a b.jpg"),
        ("a b.jpg,3,", "a b.jpg"),
        ("it's.jpg 3", "it's.jpg"),
        ("#1.jpg 3", "#1.jpg"),
    ],
)
def test_a_path_and_its_label(line: str, path: str) -> None:
    assert labelled(line) == (path, 3)


@settings(max_examples=500)
@given(st.text("a1 ,;\t\"'.", min_size=1))
def test_the_quick_look_for_a_label_sees_what_the_pattern_sees(text: str) -> None:
    line = text.strip()
    quick = _label(line.encode())
    assert (int(quick) if quick else None) == labelled(line)[1]


def test_paths_without_labels(tmp_path: Path) -> None:
    data = b'"a, b.jpg"\n\nwith 5/c.jpg\n'
    assert entries(tmp_path / "list.txt", data) == ['"a, b.jpg"', "with 5/c.jpg"]
    assert labelled('"a, b.jpg"') == ("a, b.jpg", None)
    assert entries(tmp_path / "numbers.txt", b"photo 1\nphoto\n", paths_only=True) == ["photo 1", "photo"]
    assert entries(tmp_path / "bytes.txt", b"no\xffutf8.jpg\n") == [os.fsdecode(b"no\xffutf8.jpg")]
    assert entries(tmp_path / "empty.txt", b"\xef\xbb\xbf\n# nothing\n") == []


def test_a_header_is_told(tmp_path: Path) -> None:
    for name, data, header in (
        ("a", b"filename,class\na.jpg,1\n", "filename,class"),
        ("b", b"image\na.jpg\n", "image"),
        ("c", b"a.jpg\nno suffix\n", None),
        ("d", b"one\ntwo\n", None),
    ):
        (tmp_path / name).write_bytes(data)
        assert index_list(tmp_path / name, paths_only=False).header == header


@pytest.mark.parametrize(
    "data, message",
    [
        (b"a.jpg 1\n\nb.jpg\n", "line 3: 'b.jpg' has no label; the first line has one"),
        (b"a.jpg\nb.jpg 1\n", "line 2: 'b.jpg 1' has a label; the first line has none"),
        (b"a.jpg,cat\nb.jpg,dog\n", "line 1: 'a.jpg,cat' holds more than a path"),
        (b"path,label,split\na.jpg,1,train\n", "line 2: 'a.jpg,1,train' holds more than a path"),
        (b"\xff\xfea", "is no text"),
    ],
)
def test_lines_that_are_no_list(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        entries(tmp_path / "list.txt", data)


@pytest.mark.parametrize(
    ("first", "is_header"), [("path label", True), ("image", True), ("a.heic", False), ("x/y", False)]
)
def test_an_image_that_cannot_be_read_is_no_header(first: str, is_header: bool, tmp_path: Path) -> None:
    """It is an entry, and unreadable, but never left out."""
    (tmp_path / "list.txt").write_text(f"{first}\nb.jpg\nc.jpg\n")
    listed = index_list(tmp_path / "list.txt", paths_only=True)
    assert (len(listed.entries), listed.header) == ((2, first) if is_header else (3, None))


@pytest.mark.parametrize(
    "line", ["a.jpg cat", "a.jpg|1", "a.jpg,3,7", "a.jpg 0.5", "a.jpg -1", "a.jpg 0 1 1", '"a b.jpg" cat', "a.jpg\tcat"]
)
def test_more_than_a_path_and_a_number_is_told_with_its_line(line: str, tmp_path: Path) -> None:
    """And not at the first batch, where no image can be read."""
    text = tmp_path / "list.txt"
    text.write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"line 1: .* holds more than a path, or a path and a whole number"):
        index_list(text, paths_only=False)
    with pytest.raises(ValueError, match=r"line 1: .* holds more than a path, and the labels have their own file"):
        index_list(text, paths_only=True)


@pytest.mark.parametrize(
    "line", ["a b.jpg", "a.jpg/b 1/c.png", "x,y.jpg 3", "a.jpg 3", '"a b.jpg" 3', "a.jpg.d/001", "photo 7", "n01/3"]
)
def test_paths_as_odd_as_they_may_be(line: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{line}\n")
    assert len(index_list(tmp_path / "list.txt", paths_only=False)[0]) == 1


@pytest.mark.parametrize(
    "line",
    ["0,a.jpg,3", "0\ta.jpg\t3", "3,a.jpg", "0;a.jpg", '"0","a.jpg","3"', "0, a b.jpg", "0\t5.0\ta.jpg", "0,1,3"],
)
@pytest.mark.parametrize("paths_only", [False, True])
def test_a_column_before_the_path_is_told_with_its_line(line: str, paths_only: bool, tmp_path: Path) -> None:
    """As pandas and MXNet write their lists: no such file could be found."""
    (tmp_path / "list.csv").write_text(f"{'x.jpg' if paths_only or line[-1] == 'g' else 'x.jpg,1'}\n{line}\n")
    with pytest.raises(ValueError, match=r"list\.csv, line 2: .* begins with a number: the path comes first"):
        index_list(tmp_path / "list.csv", paths_only=paths_only)


@pytest.mark.parametrize("line", ['"0,a.jpg",3', "1,3", "17", "0 a.jpg 3", "0_a.jpg,3", "12.jpg;3", "0/a.jpg,3"])
def test_paths_that_begin_with_a_number(line: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(line)
    assert len(index_list(tmp_path / "list.txt", paths_only=False).entries) == 1


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_two_bytes_a_character_without_a_mark_are_told(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("a.jpg 3\nb.jpg 4\n".encode(encoding))
    with pytest.raises(ValueError, match=r"list\.txt, line 1: is no text in UTF-8, .*: save it as UTF-8"):
        index_list(tmp_path / "list.txt", paths_only=False)


def test_a_label_that_no_tensor_holds_is_told_with_its_line(tmp_path: Path) -> None:
    text = tmp_path / "list.txt"
    text.write_text("a.jpg 9223372036854775807\n")
    labels = index_list(text, paths_only=False).labels
    assert labels is not None
    assert np.load(labels).tolist() == [2**63 - 1]
    for label in ("9223372036854775808", "9" * 5000):
        text.write_text(f"a.jpg 0\n\nb.jpg {label}\n")
        with pytest.raises(ValueError, match=r"line 3: 'b\.jpg 9.* has a label above 9223372036854775807"):
            index_list(text, paths_only=False)


def test_the_line_of_an_entry(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf# x\n\npath label\na.jpg 3\n\n  b.jpg 4")
    listed = index_list(tmp_path / "list.txt", paths_only=False)
    assert [listed.entries.number(index) for index in range(2)] == [4, 6]

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from images import write_plain

from ssltyped.data.image_list import ImageList


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_plain(tmp_path, 4)


def contents(source: ImageList) -> list[tuple[str, int | list[int]]]:
    """File name (checked by what was read, its number is its red) and label of each."""
    found = []
    for i in range(len(source)):
        number = int(source.read(i)[0, 0, 0])
        assert Path(source.name(i)).name == f"{number:03}.png"
        found.append((Path(source.name(i)).name, source.label(i) if source.labelled else -1))
    return found


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", "  "])
def test_text_with_labels(folder: Path, separator: str) -> None:
    (folder / "list.txt").write_text(f"002.png{separator}7\n000.png{separator}0\n")
    assert contents(ImageList(path=folder / "list.txt")) == [("002.png", 7), ("000.png", 0)]


def test_text_without_labels(folder: Path) -> None:
    (folder / "with space 5").mkdir()
    write_plain(folder / "with space 5", 2)
    (folder / "list.lst").write_text("003.png\nwith space 5/001.png\n")
    source = ImageList(path=folder / "list.lst")
    assert contents(source) == [("003.png", -1), ("001.png", -1)]
    assert source.name(1) == str(folder / "with space 5" / "001.png")


def test_root_and_absolute_paths(folder: Path, tmp_path: Path) -> None:
    (folder / "lists").mkdir()
    (folder / "lists" / "a.txt").write_text(f"001.png\n{folder}/002.png\n")
    assert contents(ImageList(path=folder / "lists" / "a.txt", root=folder)) == [("001.png", -1), ("002.png", -1)]


@pytest.mark.parametrize("kind", [np.str_, np.bytes_])
def test_array_of_paths_is_mapped(folder: Path, kind: type[np.generic]) -> None:
    np.save(folder / "list.npy", np.array(["001.png", "003.png"], dtype=kind))
    np.save(folder / "labels.npy", np.array([4, 2], dtype=np.int32))
    source = ImageList(path=folder / "list.npy", labels=folder / "labels.npy")
    assert contents(source) == [("001.png", 4), ("003.png", 2)]
    assert isinstance(source._entries, np.memmap)
    assert isinstance(source._labels, np.memmap)
    assert contents(ImageList(path=folder / "list.npy")) == [("001.png", -1), ("003.png", -1)]


def test_labels_as_text_go_with_whole_lines(folder: Path) -> None:
    (folder / "list.txt").write_text("001.png\n002.png\n")
    (folder / "labels.txt").write_text("3\n1\n")
    source = ImageList(path=folder / "list.txt", labels=folder / "labels.txt")
    assert contents(source) == [("001.png", 3), ("002.png", 1)]
    assert contents(pickle.loads(pickle.dumps(source))) == contents(source)
    assert len(pickle.dumps(source)) < 1000


def test_what_is_wrong_is_said(folder: Path) -> None:
    text, labels = folder / "list.txt", folder / "labels.txt"
    with pytest.raises(ValueError, match=r"list\.txt does not exist"):
        len(ImageList(path=text))
    with pytest.raises(ValueError, match="is a folder"):
        len(ImageList(path=folder))
    text.write_text("")
    with pytest.raises(ValueError, match="lists no image"):
        len(ImageList(path=text))
    text.write_text("001.png 3\n002.png\n")
    with pytest.raises(ValueError, match=r"line 2: '002.png' has no label"):
        ImageList(path=text).label(1)
    labels.write_text("1\n2\n3\n")
    with pytest.raises(ValueError, match=r"line 1: '001.png 3' holds more than a path, and the labels have their own"):
        len(ImageList(path=text, labels=labels))
    text.write_text("001.png\n002.png\n")
    with pytest.raises(ValueError, match=r"3 labels.*2 images"):
        _ = ImageList(path=text, labels=labels).labelled
    labels.write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="whole numbers"):
        _ = ImageList(path=text, labels=labels).labelled
    np.save(folder / "objects.npy", np.array([Path("a"), None], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="dtype=str"):
        len(ImageList(path=folder / "objects.npy"))
    np.save(folder / "numbers.npy", np.arange(3))
    with pytest.raises(ValueError, match="int64; it must hold paths"):
        len(ImageList(path=folder / "numbers.npy"))
    np.save(folder / "table.npy", np.array([["a", "b"]]))
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        len(ImageList(path=folder / "table.npy"))


def test_rows_of_labels_are_mapped(folder: Path) -> None:
    (folder / "list.txt").write_text("001.png\n002.png\n")
    np.save(folder / "rows.npy", np.array([[1, 0, -1], [0, 0, 1]], dtype=np.int8))
    source = ImageList(path=folder / "list.txt", labels=folder / "rows.npy")
    assert [source.label(i) for i in range(2)] == [[1, 0, -1], [0, 0, 1]]
    assert isinstance(source.label(0), list)
    assert source.labelled
    assert isinstance(source._labels, np.memmap)
    again = pickle.loads(pickle.dumps(source))
    assert again.label(1) == [0, 0, 1]
    assert len(pickle.dumps(source)) < 1000


def test_wrong_rows_are_said(folder: Path) -> None:
    (folder / "list.txt").write_text("001.png\n002.png\n")
    for name, rows, message in (
        ("short", np.zeros((3, 4), dtype=np.int64), r"3 labels.*2 images"),
        ("floats", np.zeros((2, 4)), "float64; labels are whole numbers"),
        ("deep", np.zeros((2, 4, 1), dtype=np.int64), r"shape \(2, 4, 1\)"),
        ("one", np.array(3), r"shape \(\)"),
    ):
        np.save(folder / f"{name}.npy", rows)
        with pytest.raises(ValueError, match=message):
            _ = ImageList(path=folder / "list.txt", labels=folder / f"{name}.npy").labelled


def test_a_list_of_a_spreadsheet_elsewhere(folder: Path, tmp_path: Path) -> None:
    """Byte order mark, carriage returns, a header, quotes; its labels beside it, and its paths relative to it."""
    (folder / "lists").mkdir()
    table = '\ufeff"file","class"\r\n"../002.png","7"\r\n\r\n"../000.png","0"\r\n'
    (folder / "lists" / "a.csv").write_bytes(table.encode())
    source = ImageList(path=folder / "lists" / "a.csv")
    assert contents(source) == [("002.png", 7), ("000.png", 0)]
    assert list(source.remarks) == [f'{folder}/lists/a.csv: its first line is taken for a header: "file","class"']
    assert contents(pickle.loads(pickle.dumps(source))) == contents(source)
    (folder / "lists" / "b.txt").write_bytes("\ufeff../003.png\r\n../001.png\r\n".encode("utf-16"))
    (folder / "lists" / "labels.txt").write_bytes("\ufeffclass\r\n4\r\n5\r\n".encode())
    source = ImageList(path=folder / "lists" / "b.txt", labels=folder / "lists" / "labels.txt")
    assert contents(source) == [("003.png", 4), ("001.png", 5)]


def test_why_a_list_has_no_labels(folder: Path) -> None:
    (folder / "list.txt").write_text("000.png\n")
    source = ImageList(path=folder / "list.txt")
    assert not source.labelled
    assert (
        source.why_unlabelled
        == f"{folder}/list.txt: its first line ends in no whole number, and there is no file of labels"
    )


def test_numbers_with_names(folder: Path, tmp_path: Path) -> None:
    """So that they can be matched with the classes of another set."""
    (folder / "list.txt").write_text("000.png 1\n001.png 0\n")
    names = tmp_path / "names.txt"
    names.write_bytes(b"\xef\xbb\xbfcat\r\nsnow leopard\r\n")
    source = pickle.loads(pickle.dumps(ImageList(path=folder / "list.txt", class_names=names)))
    assert source.classes == ("cat", "snow leopard")
    assert source.label(0) == 1
    assert ImageList(path=folder / "list.txt").classes == ()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (None, "class_names: .*names.txt does not exist"),
        ("cat\ncat\n", "names.txt has cat more than once"),
        ("cat\n", "1 is no class: .*names.txt names 1"),
    ],
)
def test_names_that_do_not_fit(names: str | None, told: str, folder: Path, tmp_path: Path) -> None:
    (folder / "list.txt").write_text("000.png 1\n001.png 0\n")
    if names is not None:
        (tmp_path / "names.txt").write_text(names)
    source = ImageList(path=folder / "list.txt", class_names=tmp_path / "names.txt")
    with pytest.raises(ValueError, match=told):
        _ = source.classes, source.label(0)


def test_a_label_file_must_fit_the_names(folder: Path, tmp_path: Path) -> None:
    """Which is told when it is read, not at the first batch that has such a label."""
    (folder / "list.txt").write_text("000.png\n001.png\n")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    for labels, message in (
        (np.array([0, 2]), r"labels\.npy, label 2: 2 is no class: .*names\.txt names 2, from 0"),
        (np.array([[0, 1, 0], [1, 0, 0]]), r"labels\.npy: its rows have 3 classes; .*names\.txt names 2"),
    ):
        np.save(tmp_path / "labels.npy", labels)
        source = ImageList(path=folder / "list.txt", labels=tmp_path / "labels.npy", class_names=tmp_path / "names.txt")
        with pytest.raises(ValueError, match=message):
            _ = source.labelled


@pytest.mark.parametrize("names", [b"", b"# none\n"])
def test_names_must_be_there_and_be_text(names: bytes, folder: Path, tmp_path: Path) -> None:
    (folder / "list.txt").write_text("000.png 0\n")
    for content, message in (
        (names, r"names\.txt is empty"),
        (b"cat\nl\xf6we\n", r"names\.txt, line 2: is no text in UTF-8"),
    ):
        (tmp_path / "names.txt").write_bytes(content)
        with pytest.raises(ValueError, match=f"class_names: .*{message}"):
            _ = ImageList(path=folder / "list.txt", class_names=tmp_path / "names.txt").classes


@pytest.mark.parametrize("line", ["0 001.png 3", "train,001.png,3", "id 7\t001.png", 'x "001.png"'])
def test_a_column_before_a_path_that_is_there(line: str, folder: Path) -> None:
    """`0 001.png` could be a file's name, and is none."""
    (folder / "list.txt").write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 2: .* begins with more than the path; 001\.png is there"):
        len(ImageList(path=folder / "list.txt"))
    (folder / "list.txt").write_text("0 gone.png 3\n")
    assert len(ImageList(path=folder / "list.txt")) == 1, "it may come"
    (folder / "0 001.png").write_bytes((folder / "001.png").read_bytes())
    (folder / "list.txt").write_text("0 001.png 3\n")
    assert contents_of_name(ImageList(path=folder / "list.txt")) == ("0 001.png", 3)


def contents_of_name(source: ImageList) -> tuple[str, int | list[int]]:
    return Path(source.name(0)).name, source.label(0)


def test_bytes_that_are_no_text_are_a_path_too(folder: Path) -> None:
    (folder / os.fsdecode(b"\xe4.png")).write_bytes((folder / "001.png").read_bytes())
    np.save(folder / "list.NPY", np.array([b"\xe4.png"]))
    (folder / "list.NPY.npy").rename(folder / "list.NPY")
    assert int(ImageList(path=folder / "list.NPY").read(0)[0, 0, 0]) == 1

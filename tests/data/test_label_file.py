"""Labels that lie in a file of their own: every way to write them, and what is told of those that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssltyped.data.label_file import load_labels, read_labels


@pytest.mark.parametrize(
    "data",
    [
        b"3\n1\n0\n",
        b"\xef\xbb\xbf3\r\n1\r\n0",
        b"label\n3\n\n1\n# none\n0\n\n",
        b'"3"\n "1" \n0,\n',
        "label\r\n3\r\n1\r\n0\r\n".encode("utf-16"),
    ],
)
def test_the_same_labels_however_they_were_written(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "labels.csv").write_bytes(data)
    assert read_labels(tmp_path / "labels.csv").tolist() == [3, 1, 0]


def test_rows_of_labels(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"cat,dog,cow\n1,0,-1\n0,0,1\n")
    assert np.array_equal(read_labels(tmp_path / "rows.csv"), [[1, 0, -1], [0, 0, 1]])


@pytest.mark.parametrize(
    "data, message",
    [
        (b"1\n2.5\n", "line 2: '2.5': labels are whole numbers"),
        (b"cat\ndog\n", "line 2: 'dog': labels are whole numbers"),
        (b"label\n", "line 1: 'label': labels are whole numbers"),
        (b"1 0\n1\n", "line 2: '1': 1 numbers, and 2 in the lines before"),
        (b"1\n,\n", "line 2: ',': labels are whole numbers"),
        (b"1\n1_0\n", "line 2: '1_0': labels are whole numbers"),
        (b"class\n4\n\n-1\n", "line 4: '-1': a class is a number from 0"),
        (
            b"4\n9223372036854775808\n",
            "line 2: '9223372036854775808': a class is a number from 0 to 9223372036854775807",
        ),
        (b"4\n" + b"9" * 5000, "line 2: '9.*: a class is a number from 0 to 9223372036854775807"),
        (b"1 0\n0 2\n", "line 2: '0 2': a row has 1, 0 or -1 for each class"),
        ("4\n".encode("utf-16-le"), "line 1: is no text in UTF-8"),
    ],
)
def test_what_are_no_labels(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "labels.txt").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "labels.txt")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, -1, 3]), r"shape \(3,\): entry \[1\] is -1; a class is a number from 0 to 9223372036854775807"),
        (np.array([0, 2**63, 3], dtype=np.uint64), r"entry \[1\] is 9223372036854775808; a class is a number"),
        (np.array([[0], [2], [1]]), r"shape \(3, 1\): entry \[1, 0\] is 2; a row has 1, 0 or -1 for each class"),
        (np.array([[1, 0], [0, 1], [-1, -100]]), r"entry \[2, 1\] is -100; a row has 1, 0 or -1"),
        (np.zeros((3, 0), dtype=np.int64), r"shape \(3, 0\): a row has"),
        (np.array([True, False, True]), "holds bool; labels are whole numbers"),
        (np.array([[[1]], [[0]], [[1]]]), r"shape \(3, 1, 1\); it must have one entry an image"),
    ],
)
def test_an_array_of_what_are_no_labels(labels: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(ValueError, match=rf"labels: .*labels\.npy holds .*{message.removeprefix('holds ')}"):
        load_labels(tmp_path / "labels.npy", 3, most_dims=2)


def test_an_error_names_the_file_and_not_its_copy(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("1 0\n0 1\n")
    with pytest.raises(
        ValueError, match=rf"labels: {tmp_path}/rows\.txt holds int64 of shape \(2, 2\); it must have one"
    ):
        load_labels(tmp_path / "rows.txt", 2, most_dims=1)
    with pytest.raises(ValueError, match="is no file"):
        load_labels(tmp_path, 2, most_dims=1)

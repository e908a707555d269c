import os
import pickle
from pathlib import Path

import pytest

from ssltyped.data.index import PathIndex, cache_folder, write_index


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_names_come_back() -> None:
    names = [
        "a.jpg",
        "x/ü b.png",
        "ends in a line\n",
        os.fsdecode(b"no\xffutf8.jpg"),
        *(f"{i}" for i in range(200_000)),
    ]
    index = write_index(names)
    assert len(index) == len(names)
    assert [index[i] for i in (0, 1, 2, 3, 4, 65_539, 131_076, 200_003)] == [
        *names[:5],
        *(names[i] for i in (65_539, 131_076, 200_003)),
    ]


def test_the_same_names_are_the_same_file_and_others_are_not() -> None:
    assert write_index(["ab", "c"]).text == write_index(["ab", "c"]).text
    assert write_index(["ab", "c"]).text != write_index(["a", "bc"]).text
    assert len(list(cache_folder().iterdir())) == 4


def test_a_pickle_holds_no_names() -> None:
    index = write_index(f"{i:09}.jpg" for i in range(10_000))
    assert index[77] == "000000077.jpg"
    data = pickle.dumps(index)
    assert len(data) < 1000
    again: PathIndex = pickle.loads(data)
    assert (len(again), again[9_999]) == (10_000, "000009999.jpg")


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = cache_folder()
    assert mine.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("os.getuid", lambda: 987_654)
    (tmp_path / "ssltyped-987654").mkdir()
    assert cache_folder().name != "ssltyped-987654"

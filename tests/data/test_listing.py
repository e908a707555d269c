import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from images import write, write_plain

from ssltyped.data.listing import Listing, is_image, listing, listings, remember


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The folders that have been listed since it was last asked."""
    seen: list[str] = []
    scandir = os.scandir

    def counted(path: str) -> object:
        seen.append(str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", counted)

    def since() -> list[str]:
        found = seen.copy()
        seen.clear()
        return found

    return since


def names(found: Listing) -> list[str]:
    return [found.files[index] for index in range(len(found.files))]


def settle(folder: Path) -> None:
    """As if it had been made long ago."""
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        os.utime(each, (time.time() - 100, time.time() - 100))


def test_what_a_folder_holds(tmp_path: Path) -> None:
    others = {
        "a/x.HEIC": b"",
        "b/y.heic": b"",
        "notes.txt": b"",
        "b/README": b"",
        ".hidden.png": b"",
        ".git/z.png": b"",
    }
    write(tmp_path, {"b/2.png": b"", "b/deep/1.JFIF": b"", "top.jpg": b"", "a/3.webp": b"", **others})
    (tmp_path / "empty" / "below").mkdir(parents=True)
    found = listing(tmp_path)
    assert names(found) == ["top.jpg", "a/3.webp", "b/2.png", "b/deep/1.JFIF"]
    assert dict(found.counts) == {"": 1, "a": 1, "b": 2, "empty": 0}
    assert (found.folders, found.empty) == (["a", "b", "empty"], ["empty"])
    assert dict(found.left_out) == {".heic": 2, ".txt": 1, "without suffix": 1}
    said = "4 files left out, no images by their suffix: 2 .heic, 1 .txt, 1 without suffix"
    assert found.remark() == said
    assert listing(write_plain(tmp_path / "only", 1)).remark() == ""


def test_a_folder_is_searched_once(tmp_path: Path, searched: Callable[[], list[str]]) -> None:
    for name in ("a", "b", "c"):
        write_plain(tmp_path / name, 2)
    settle(tmp_path)
    searched()
    first = listing(tmp_path)
    assert len(searched()) == 4
    assert listing(tmp_path) is first
    assert searched() == []


def test_another_process_need_not_search_again(
    tmp_path: Path, searched: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plain(tmp_path / "a", 2)
    settle(tmp_path)
    first = names(listing(tmp_path))
    sent = pickle.dumps({folder: found for folder, found in listings().items() if folder == tmp_path})
    assert len(sent) < 2000
    monkeypatch.setattr("ssltyped.data.listing._LISTINGS", {})
    searched()
    remember(pickle.loads(sent))
    assert names(listing(tmp_path)) == first
    assert searched() == []
    write(tmp_path, {"a/new.png": b""})
    assert len(names(listing(tmp_path))) == 3


def test_a_folder_without_a_time_is_searched_again(tmp_path: Path, searched: Callable[[], list[str]]) -> None:
    write_plain(tmp_path, 2)
    os.utime(tmp_path, (0, 0))
    listing(tmp_path)
    listing(tmp_path)
    assert len(searched()) == 2


@pytest.mark.parametrize("change", ["added", "removed", "folder", "deep"])
def test_a_folder_that_changed_is_searched_again(tmp_path: Path, change: str) -> None:
    for name in ("a", "b/c"):
        write_plain(tmp_path / name, 2)
    settle(tmp_path)
    before = names(listing(tmp_path))
    match change:
        case "added":
            write(tmp_path, {"a/new.png": b""})
        case "removed":
            (tmp_path / "a" / "000.png").unlink()
        case "folder":
            write_plain(tmp_path / "new", 1)
        case _:
            write(tmp_path, {"b/c/new.png": b""})
    after = names(listing(tmp_path))
    assert len(after) == len(before) + (-1 if change == "removed" else 1)


def test_a_folder_that_has_just_changed_is_searched_again(tmp_path: Path, searched: Callable[[], list[str]]) -> None:
    """Its time of change may be the same after the next change."""
    listing(write_plain(tmp_path, 2))
    listing(tmp_path)
    assert len(searched()) == 2


def test_links(tmp_path: Path) -> None:
    write_plain(tmp_path / "real", 2)
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "same").symlink_to(tmp_path / "real")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    found = listing(tmp_path)
    assert names(found) == ["gone.png", "real/000.png", "real/001.png", "same/000.png", "same/001.png"]
    assert [found.distinct()[index] for index in range(3)] == ["gone.png", "real/000.png", "real/001.png"]
    assert len(found.distinct()) == 3
    assert dict(found.counts) == {"": 1, "real": 2, "same": 2}


def test_suffixes() -> None:
    found = [".jpg", ".JPEG", ".jpe", ".jfif", ".jp2", ".avif", ".png", ".tiff"]
    assert all(is_image(f"a{suffix}") for suffix in found)
    assert not any(map(is_image, ("a.txt", "jpg", ".jpg", "a.jpg.json", "a.npy")))


def test_what_it_says_in_json_is_the_same(tmp_path: Path) -> None:
    """Also of names that are no text, and links; classes stay in their order."""
    write_plain(tmp_path / "b", 2)
    write_plain(tmp_path / "a" / "deep", 1)
    write(tmp_path, {"ä/\udcff.png": b"", "notes.txt": b""})
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = listing(tmp_path)
    again = Listing.from_json(found.to_json())
    assert names(again) == names(found)
    assert list(again.counts) == list(found.counts)
    assert {**vars(again), "files": None} == {**vars(found), "files": None}
    assert again.holds() == found.holds()

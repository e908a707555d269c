from pathlib import Path

import pytest
from images import write, write_plain

from ssltyped.data.detect import detect
from ssltyped.data.image_list import ImageListConf
from ssltyped.data.sources import FlatFolderConf, ImageFolderConf


def test_class_folders(tmp_path: Path) -> None:
    write_plain(tmp_path / "a", 1)
    write_plain(tmp_path / "b" / "deep", 1)
    write(tmp_path, {"readme.txt": b"", ".hidden.jpg": b""})
    source, reason = detect(tmp_path)
    assert source == ImageFolderConf(path=tmp_path)
    assert reason == "2 sub-folders with images in each: the classes"


def test_folders_that_are_no_classes(tmp_path: Path) -> None:
    write_plain(tmp_path / "images", 2)
    assert detect(tmp_path)[0] == FlatFolderConf(path=tmp_path)
    (tmp_path / "notes").mkdir()
    source, reason = detect(tmp_path)
    assert source == FlatFolderConf(path=tmp_path)
    assert "notes" in reason
    write_plain(tmp_path / "notes", 1)
    assert detect(tmp_path)[0] == ImageFolderConf(path=tmp_path)
    write_plain(tmp_path, 1)
    assert detect(tmp_path)[0] == FlatFolderConf(path=tmp_path)


@pytest.mark.parametrize("name", ["list.txt", "list.npy", "list.CSV"])
def test_lists(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert detect(tmp_path / name)[0] == ImageListConf(path=tmp_path / name)


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none does not exist"):
        detect(tmp_path / "none")
    with pytest.raises(ValueError, match=r"holds no image.*\.jpg \.jpeg .*\.png"):
        detect(tmp_path)
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        detect(tmp_path)
    write(tmp_path, {"images.tar": b"x"})
    with pytest.raises(ValueError, match=r"images\.tar is a file.*\.txt"):
        detect(tmp_path / "images.tar")


def test_a_folder_of_splits(tmp_path: Path) -> None:
    write_plain(tmp_path / "train" / "cat", 1)
    with pytest.raises(ValueError, match=r"splits, not classes; did you mean .*/train\?"):
        detect(tmp_path)
    write_plain(tmp_path / "Val" / "cat", 1)
    with pytest.raises(ValueError, match=r"Val or .*train"):
        detect(tmp_path)


def test_vendors_are_not_taken_for_classes(tmp_path: Path) -> None:
    """With images only two folders deep, either level could be meant; with some directly in a folder it is clear."""
    for vendor in ("acme", "zeta"):
        for name in ("cat", "dog"):
            write_plain(tmp_path / vendor / name, 2)
    source, reason = detect(tmp_path)
    assert source == FlatFolderConf(path=tmp_path)
    assert reason.startswith("images lie deeper than one folder (acme/cat), so which folder is the class is not clear")
    assert "source=ImageFolder" in reason
    write_plain(tmp_path / "acme", 1)
    assert detect(tmp_path)[0] == ImageFolderConf(path=tmp_path)


def test_a_device_is_there_and_is_no_list() -> None:
    with pytest.raises(ValueError, match="/dev/null is a pipe or device; it must be a folder of images or a list"):
        detect(Path("/dev/null"))

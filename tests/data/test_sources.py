import os
import pickle
from pathlib import Path

import pytest
import torch
from images import BROKEN, broken_files, encoded, mixed_files, write, write_plain
from PIL import Image as Pillow

from ssltyped.data.sources import FlatFolder, ImageFolder
from ssltyped.types import UnreadableImageError


def test_flat_folder_finds_all_images_below_it(tmp_path: Path) -> None:
    mixed = mixed_files()
    files = {
        **{f"a/{name}": data for name, data in mixed.items()},
        "z.jpg": mixed["rgb.jpg"],
        "a/b/c.png": mixed["rgb.png"],
    }
    others = {"notes.txt": b"x", ".hidden.jpg": b"x", ".trash/x.jpg": b"x", "a/jpg": b"x"}
    source = FlatFolder(path=write(tmp_path, {**files, **broken_files(), **others}))
    names = [source.name(i) for i in range(len(source))]
    assert sorted(names) == sorted(str(tmp_path / name) for name in [*files, *BROKEN])
    assert names == [FlatFolder(path=tmp_path).name(i) for i in range(len(source))]
    assert not source.labelled


def test_reading(tmp_path: Path) -> None:
    source = FlatFolder(path=write(tmp_path, {**mixed_files(), **broken_files()}))
    failed = set()
    for i in range(len(source)):
        try:
            assert source.read(i).shape in ((3, 30, 40), (3, 40, 30))
        except UnreadableImageError:
            failed.add(source.name(i))
    assert failed == {str(tmp_path / name) for name in BROKEN}


def test_a_file_that_went_away_is_unreadable(tmp_path: Path) -> None:
    source = FlatFolder(path=write_plain(tmp_path, 3))
    assert len(source) == 3
    (tmp_path / "001.png").unlink()
    with pytest.raises(UnreadableImageError, match="No such file"):
        source.read(1)


def test_class_folders(tmp_path: Path) -> None:
    png = mixed_files()["rgb.png"]
    files = {"dog/1.png": png, "dog/deep/0.png": png, "cat/b.png": png, "cat/a.png": png, "Ant/x.PNG": png}
    source = ImageFolder(path=write(tmp_path, {**files, "readme.txt": b"", ".git/x.png": png}))
    assert source.classes == ("Ant", "cat", "dog")
    found = [(source.name(i).removeprefix(f"{tmp_path}/"), source.label(i)) for i in range(len(source))]
    assert found == [("Ant/x.PNG", 0), ("cat/a.png", 1), ("cat/b.png", 1), ("dog/1.png", 2), ("dog/deep/0.png", 2)]
    assert source.labelled


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_plain(tmp_path / "real", 2)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "set")
    assert len(FlatFolder(path=tmp_path / "set")) == 2


def test_a_pickle_is_small_and_keeps_the_list(tmp_path: Path) -> None:
    for source in (FlatFolder(path=write_plain(tmp_path / "x" / "y", 300)), ImageFolder(path=tmp_path / "x")):
        names = [source.name(i) for i in range(len(source))]
        data = pickle.dumps(source)
        assert len(data) < 2000
        (tmp_path / "x" / "y" / f"new{type(source).__name__}.png").write_bytes(b"came later")
        again = pickle.loads(data)
        assert [again.name(i) for i in range(len(again))] == names
        assert torch.equal(again.read(5), source.read(5))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        len(FlatFolder(path=tmp_path / "none"))
    with pytest.raises(ValueError, match=r"holds no image .*jpeg"):
        len(FlatFolder(path=tmp_path))
    with pytest.raises(ValueError, match="no sub-folders"):
        len(ImageFolder(path=tmp_path))
    (tmp_path / "a").mkdir()
    write_plain(tmp_path / "b", 1)
    with pytest.raises(ValueError, match=r"no image in these class folders.*: a$"):
        len(ImageFolder(path=tmp_path))
    with pytest.raises(ValueError, match="is a file"):
        len(ImageFolder(path=tmp_path / "b" / "000.png"))


def test_images_beside_class_folders_have_no_class(tmp_path: Path) -> None:
    write_plain(tmp_path / "a", 2)
    write_plain(tmp_path / "b", 1)
    (tmp_path / "stray.png").write_bytes((tmp_path / "a" / "001.png").read_bytes())
    source = ImageFolder(path=tmp_path)
    found = [(source.name(i).removeprefix(f"{tmp_path}/"), source.label(i)) for i in range(len(source))]
    assert found == [("a/000.png", 0), ("a/001.png", 0), ("b/000.png", 1)]
    assert [int(source.read(i)[0, 0, 0]) for i in range(3)] == [0, 1, 0]


def test_why_a_folder_has_no_labels(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        write_plain(tmp_path / name, 1)
    assert "ImageFolder has its sub-folders for classes" in FlatFolder(path=tmp_path).why_unlabelled
    (tmp_path / "zebra").mkdir()
    expected = f"{tmp_path}: not every sub-folder holds images (zebra), so they are no classes"
    assert FlatFolder(path=tmp_path).why_unlabelled == expected
    write_plain(tmp_path, 1)
    assert "images lie in it directly" in FlatFolder(path=tmp_path).why_unlabelled


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    write_plain(tmp_path / "a", 1)
    write_plain(tmp_path / "b", 1)
    sources = (FlatFolder(path=tmp_path), ImageFolder(path=tmp_path))
    assert [list(source.remarks) for source in sources] == [[], []]
    write(tmp_path, {"a/x.heic": b"", "b/y.heic": b""})
    said = f"{tmp_path}: 2 files left out, no images by their suffix: 2 .heic"
    assert [list(source.remarks) for source in sources] == [[said], [said]]
    assert list(FlatFolder(path=tmp_path / "not there").remarks) == []


def test_what_is_transparent_is_laid_on_the_background(tmp_path: Path) -> None:
    clear = encoded(Pillow.new("RGBA", (3, 3), (9, 9, 9, 0)), "PNG")
    write(tmp_path, {"a/0.png": clear, "b/0.png": clear})
    for source in (FlatFolder(path=tmp_path, background=(1, 2, 3)), ImageFolder(path=tmp_path, background=(1, 2, 3))):
        assert source.read(0)[:, 0, 0].tolist() == [1, 2, 3]
    assert FlatFolder(path=tmp_path).read(0).min() == 255


def test_what_is_no_file_is_unreadable(tmp_path: Path) -> None:
    """A pipe would be waited for."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    source = FlatFolder(path=tmp_path)
    for index, reason in ((0, "No such file"), (1, "a folder, pipe or device")):
        with pytest.raises(UnreadableImageError, match=reason):
            source.read(index)

"""Every odd file has right pixels or one named reason, and no library says anything on the terminal."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from images import encoded, pixels, write
from odd_files import files

from ssltyped.data.sources import FlatFolder
from ssltyped.types import Image, UnreadableImageError

FILES = files()


def test_there_are_enough() -> None:
    assert len(FILES) > 200


def outcome(source: FlatFolder, index: int) -> Image | str:
    """The image, or why there is none."""
    try:
        return source.read(index)
    except UnreadableImageError as error:
        return str(error)


@pytest.mark.parametrize("name", FILES)
def test_right_pixels_or_one_reason(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = FILES[name]
    source = FlatFolder(path=write(tmp_path, {name: odd.data}))
    assert len(source) == 1
    got = outcome(source, 0)
    if isinstance(got, str):
        assert odd.either or odd.rgb is None, f"unreadable: {got}"
        assert re.search(odd.reason, got)
        assert got.strip()
        assert "0x" not in got
        assert "\n" not in got
    else:
        assert odd.rgb is not None, f"read, of shape {tuple(got.shape)}"
        found = got.permute(1, 2, 0).numpy().astype(float)
        assert found.shape == odd.rgb.shape
        assert np.abs(found - odd.rgb).max() <= odd.tolerance
    assert capfd.readouterr() == ("", "")


def test_odd_things_with_the_name_of_an_image(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg/inside.png": encoded(pixels(), "PNG"), "no\nline.png": encoded(pixels(), "PNG")})
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.jpg" / "inside.png")
    (tmp_path / "locked.png").write_bytes(encoded(pixels(), "PNG"))
    (tmp_path / "locked.png").chmod(0)
    os.mkfifo(tmp_path / "pipe.png")
    source = FlatFolder(path=tmp_path)
    outcomes = {Path(source.name(index)).name: outcome(source, index) for index in range(len(source))}
    found = {name: got if isinstance(got, str) else str(tuple(got.shape)) for name, got in outcomes.items()}
    assert found.pop("locked.png") in ("Permission denied", "(3, 30, 40)")  # nothing is locked for root
    assert found == {
        "inside.png": "(3, 30, 40)",
        "linked.png": "(3, 30, 40)",
        "no\nline.png": "(3, 30, 40)",
        "gone.jpg": "No such file or directory",
        "loop.jpg": "Too many levels of symbolic links",
        "pipe.png": "no file, but a folder, pipe or device",
    }

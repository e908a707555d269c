"""Several sources as one: each image of each, classes by their names."""

from __future__ import annotations

from pathlib import Path

import pytest
from images import write_plain
from tiny import Patches

from ssltyped.data.concat import ConcatSource
from ssltyped.data.digits import Digits, DigitSplit
from ssltyped.data.sources import FlatFolder, ImageFolder


def folder(root: Path, *classes: str) -> ImageFolder:
    for name in classes:
        write_plain(root / name, 2)
    return ImageFolder(path=root)


def test_images_come_one_after_the_other_with_their_names(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", "cat", "dog"), folder(tmp_path / "two", "ant", "dog")
    both = ConcatSource(sources=[one, two])
    assert len(both) == 8
    assert [both.name(i) for i in range(8)] == [*(one.name(i) for i in range(4)), *(two.name(i) for i in range(4))]
    assert both.read(5).equal(two.read(1))
    assert both.classes == ("ant", "cat", "dog")
    assert [both.label(i) for i in range(8)] == [1, 1, 2, 2, 0, 0, 2, 2]


def test_numbers_without_names_mean_the_same() -> None:
    both = ConcatSource(sources=[Patches(count=5), Patches(count=3)])
    assert [both.label(i) for i in range(8)] == [0, 1, 2, 3, 0, 0, 1, 2]
    assert both.classes == ()


def test_names_and_numbers_do_not_meet() -> None:
    both = ConcatSource(sources=[Digits(split=DigitSplit.TEST), Patches()])
    with pytest.raises(ValueError, match="the classes of source 1 are numbers, and others have names"):
        _ = both.classes


def test_one_without_labels_leaves_all_without(tmp_path: Path) -> None:
    write_plain(tmp_path / "flat", 2)
    both = ConcatSource(sources=[folder(tmp_path / "one", "cat", "dog"), FlatFolder(path=tmp_path / "flat")])
    assert not both.labelled
    assert both.classes == ()
    assert both.why_unlabelled.startswith(f"source 1: {tmp_path}/flat: images lie in it directly")

"""Patches: where they are cut, in which order they come, and what their label says."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import FACTS
from jaxtyping import Int64
from transforms.streams import Noted, Streams

from ssltyped.config import ConfigError, build
from ssltyped.config.resolve import problems_of
from ssltyped.transforms.geometry import CenterCrop, CenterCropConf, HorizontalFlipConf, RandomResizedCrop
from ssltyped.transforms.opencv import to_image
from ssltyped.transforms.patches import PatchViews, PatchViewsConf, cut_patches, hamming_permutations
from ssltyped.types import Image, Transform

SIDE = 25
ROWS, COLUMNS = np.indices((SIDE, SIDE))
WHERE = to_image(np.stack([ROWS, COLUMNS, 0 * ROWS], axis=2).astype(np.uint8))
"""Every pixel holds its row and column."""

CHAIN: list[Transform] = [CenterCrop(size=SIDE)]


def cell(patch: Image, cell_size: int) -> int:
    """The number of the cell that a patch of WHERE lies in, column by column."""
    row, column = int(patch[0, 0, 0]), int(patch[1, 0, 0])
    return column // cell_size * 3 + row // cell_size


def test_cut_by_hand() -> None:
    """3 x 3 cells of 8 pixels (the 25th is left out), patches of 6."""
    offsets = np.array([[[0, 1, 1], [1, 0, 0], [0, 1, 0]], [[1, 1, 0], [0, 0, 1], [1, 0, 1]]])
    patches = cut_patches(WHERE, offsets, 2)
    assert len(patches) == 9
    for number, patch in enumerate(patches):
        i, j = divmod(number, 3)
        left, top = 8 * i + offsets[0, i, j], 8 * j + offsets[1, i, j]
        assert torch.equal(patch, WHERE[:, top : top + 6, left : left + 6])


@pytest.mark.parametrize(("patches", "jitter", "size"), [(9, 2, 6), (9, 0, 8), (4, 5, 7), (1, 3, 22), (25, 1, 4)])
def test_a_patch_lies_in_its_cell(patches: int, jitter: int, size: int) -> None:
    maker = PatchViews(transforms=CHAIN, num_patches=patches, jitter=jitter)
    side = round(patches**0.5)
    starts = set()
    for image in range(60):
        views = maker(WHERE, Streams(image))
        assert views.label is None
        assert [tuple(view.shape) for view in views.images] == [(3, size, size)] * patches
        for number, view in enumerate(views.images):
            i, j = divmod(number, side)
            top, left = int(view[0, 0, 0]) - SIDE // side * j, int(view[1, 0, 0]) - SIDE // side * i
            assert 0 <= top < max(jitter, 1)
            assert 0 <= left < max(jitter, 1)
            assert torch.equal(view, WHERE[:, view[0, 0, 0] :, view[1, 0, 0] :][:, :size, :size])
            starts.add((top, left))
    assert len(starts) == max(jitter, 1) ** 2, "every place is met"
    assert list(maker.crop_sizes) == [size] * patches


def test_the_label_is_the_order() -> None:
    maker = PatchViews(transforms=CHAIN, jitter=2, num_permutations=7)
    known = hamming_permutations(7, 9)
    labels = []
    for image in range(140):
        views = maker(WHERE, Streams(image))
        assert views.label is not None
        assert [cell(view, 8) for view in views.images] == known[views.label].tolist()
        labels.append(views.label)
    assert maker.num_classes == 7
    counts = np.bincount(labels, minlength=7)
    assert counts.min() >= 8, "uniform: 20 each"


def test_the_order_does_not_move_what_is_in_the_patches() -> None:
    """The same image with and without an order: the same patches, in another order."""
    chain: list[Transform] = [RandomResizedCrop(size=SIDE)]
    plain = PatchViews(transforms=chain, jitter=3)(WHERE, Streams()).images
    for maker in (
        PatchViews(transforms=chain, jitter=3, num_permutations=7),
        PatchViews(transforms=chain, jitter=3, shuffle=True),
    ):
        views = maker(WHERE, Streams()).images
        matches = [[i for i, other in enumerate(plain) if torch.equal(view, other)] for view in views]
        assert sorted(place for match in matches for place in match) == list(range(9))


def test_transforms_of_patches_leave_order_and_places_alone() -> None:
    note = Noted()
    for order in ({"num_permutations": 7}, {"shuffle": True}):
        with_them = PatchViews(transforms=CHAIN, patch_transforms=[note], jitter=3, **order)
        without = PatchViews(transforms=CHAIN, jitter=3, **order)
        a, b = with_them(WHERE, Streams(4)), without(WHERE, Streams(4))
        assert a.label == b.label
        assert all(torch.equal(x, y) for x, y in zip(a.images, b.images, strict=True))
    assert len(set(note.drawn[:9])) == 9, "each patch draws for itself"


def test_shuffled_patches_come_in_any_order() -> None:
    maker = PatchViews(transforms=CHAIN, num_patches=4, jitter=0, shuffle=True)
    views = [maker(WHERE, Streams(image)) for image in range(300)]
    orders = {tuple(int(view[0, 0, 0]) + int(view[1, 0, 0]) * 2 for view in one.images) for one in views}
    assert len(orders) == 24
    assert {one.label for one in views} == {None}
    assert maker.num_classes is None


@pytest.mark.parametrize("first", [0, 1])
def test_permutations_of_a_file(first: int, tmp_path: Path) -> None:
    known = hamming_permutations(5, 9)[::-1]
    np.save(tmp_path / "set.npy", known + first)
    maker = PatchViews(transforms=CHAIN, jitter=2, permutations_file=tmp_path / "set.npy")
    maker.prepare()
    assert maker.num_classes == 5
    for image in range(30):
        views = maker(WHERE, Streams(image))
        assert views.label is not None
        assert [cell(view, 8) for view in views.images] == known[views.label].tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.arange(8)[None], "has the shape (1, 8); permutations of 9 patches are (N, 9)"),
        (np.arange(9), "has the shape (9,)"),
        (np.zeros((0, 9)), "has the shape (0, 9)"),
        (np.stack([np.arange(9), np.full(9, 4)]), "row 1 is no permutation of 9 patches"),
        (np.arange(9)[None] * 2, "row 0 is no permutation of 9 patches"),
    ],
)
def test_a_file_that_holds_something_else(rows: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", rows)
    config = PatchViewsConf(transforms=[CenterCropConf(size=SIDE)], jitter=2, permutations_file=tmp_path / "set.npy")
    (problem,) = problems_of(config, FACTS)
    assert problem.path == "permutations_file"
    assert message in problem.message
    with pytest.raises(ValueError, match="permutation"):
        build(config).prepare()


def test_what_is_wrong_comes_at_once(tmp_path: Path) -> None:
    def problems(**fields: object) -> dict[str, str]:
        config = PatchViewsConf(**{"transforms": [CenterCropConf(size=SIDE)], "jitter": 2, **fields})  # type: ignore[arg-type]  # by name
        return {problem.path: problem.message for problem in problems_of(config, FACTS)}

    assert not problems()
    assert problems(num_patches=8)["num_patches"] == "got 8, which is no square number"
    assert problems(jitter=8) == {"jitter": "got 8, and a cell has only 8 pixels"}
    assert "add one with a `size`" in problems(transforms=[HorizontalFlipConf()])["transforms"]
    missing = problems(num_permutations=30, num_patches=4, permutations_file=tmp_path / "none.npy")
    assert missing.keys() == {"num_permutations", "permutations_file"}
    assert missing["num_permutations"] == "got 30; 4 patches have 24"
    assert "none.npy" in missing["permutations_file"]
    assert "give one of" in problems(num_permutations=3, shuffle=True)["num_permutations"]
    assert "at most 9 patches" in problems(num_permutations=3, num_patches=16, jitter=1)["num_permutations"]


def test_patches_are_as_large_as_their_own_transforms_make_them() -> None:
    maker = PatchViews(transforms=CHAIN, patch_transforms=[RandomResizedCrop(size=5)], jitter=2)
    assert list(maker.crop_sizes) == [5] * 9
    assert [tuple(view.shape) for view in maker(WHERE, Streams()).images] == [(3, 5, 5)] * 9


def test_a_problem_of_a_file_is_found_before_a_run(tmp_path: Path) -> None:
    config = PatchViewsConf(transforms=[CenterCropConf(size=SIDE)], permutations_file=tmp_path / "none.npy")
    assert build(config).num_classes is None
    with pytest.raises(ConfigError, match="num_patches"):
        build(PatchViewsConf(transforms=[CenterCropConf(size=SIDE)], num_patches=0))  # type: ignore[config-value]  # the point of it


def distances(rows: Int64[np.ndarray, "N T"]) -> Int64[np.ndarray, "N N"]:
    """Hamming distances of all pairs; a row to itself counts as its length."""
    found: Int64[np.ndarray, "N N"] = (rows[:, None] != rows[None]).sum(axis=2)
    np.fill_diagonal(found, rows.shape[1])
    return found


def slow(count: int, length: int) -> list[list[int]]:
    """The definition, one candidate after the other."""
    every = [list(row) for row in itertools.permutations(range(length))]
    chosen = [every[0]]
    while len(chosen) < count:
        best, wanted = (-1, -1), every[0]
        for row in every:
            if row not in chosen:
                to_all = [sum(a != b for a, b in zip(row, other, strict=True)) for other in chosen]
                if (min(to_all), sum(to_all)) > best:
                    best, wanted = (min(to_all), sum(to_all)), row
        chosen.append(wanted)
    return chosen


@pytest.mark.parametrize(("count", "length"), [(1, 1), (2, 2), (6, 3), (10, 4), (24, 4), (30, 5)])
def test_is_what_the_definition_says(count: int, length: int) -> None:
    assert hamming_permutations(count, length).tolist() == slow(count, length)


def test_rows_are_different_permutations() -> None:
    rows = hamming_permutations(64, 7)
    assert rows.shape == (64, 7)
    assert (np.sort(rows, axis=1) == np.arange(7)).all()
    assert len({tuple(row) for row in rows.tolist()}) == 64
    assert rows[0].tolist() == list(range(7))


def test_farther_apart_than_random_sets() -> None:
    """In the smallest distance and in the mean of the distances to the nearest one."""
    ours = distances(hamming_permutations(40, 9))
    random = np.random.default_rng(0)
    others = [distances(np.stack([random.permutation(9) for _ in range(40)])) for _ in range(20)]
    assert ours.min() == 7
    assert ours.min() > max(other.min() for other in others)
    assert ours.min(axis=1).mean() > max(other.min(axis=1).mean() for other in others) + 1


def test_a_larger_set_starts_with_the_smaller_one_as_far_as_can_be() -> None:
    """The greedy search never looks ahead, but for ties: the smallest distances of the first rows are the same."""
    few, many = hamming_permutations(10, 5), hamming_permutations(50, 5)
    assert distances(few).min() == distances(many[:10]).min()
    assert distances(many).min() <= distances(few).min()


@pytest.mark.parametrize(
    ("count", "length", "message"),
    [
        (7, 3, "there are 6 permutations of 3 patches, not 7"),
        (4, 10, "permutations of 1 to 9 patches can be searched, not of 10"),
        (1, 0, "not of 0"),
    ],
)
def test_what_is_refused(count: int, length: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hamming_permutations(count, length)


def test_a_thousand_of_nine() -> None:
    """As many as the paper uses."""
    rows = hamming_permutations(1000, 9)
    assert len({tuple(row) for row in rows.tolist()}) == 1000
    assert distances(rows).min() >= 5
    assert distances(rows).mean() >= 8

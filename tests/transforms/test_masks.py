"""Masks: how many patches, in which shapes, and that they leave the views alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from facts import FACTS
from jaxtyping import Bool
from transforms.streams import IMAGE, Streams

from ssltyped.config.resolve import problems_of
from ssltyped.transforms.colour import ColorDistortion
from ssltyped.transforms.geometry import CenterCrop, CenterCropConf, RandomResizedCrop
from ssltyped.transforms.masks import MASKS, MaskedViews, MaskedViewsConf, Shape
from ssltyped.transforms.rotation import RotatedViews
from ssltyped.transforms.views import MultiCrop, MultiCropConf, RepeatViews, RepeatViewsConf, SeveralInputs

TWO = RepeatViews(num_views=2, transforms=[RandomResizedCrop(size=16), ColorDistortion()])
SMALL = RepeatViews(num_views=3, transforms=[RandomResizedCrop(size=8)])
GRID = (14, 14)


def drawn(maker: MaskedViews, count: int, grid: tuple[int, int] = GRID) -> list[Bool[np.ndarray, "h w"]]:
    return [maker.mask(grid, Streams(number)(0)) for number in range(count)]


def test_views_are_those_without_a_mask() -> None:
    maker = MultiCrop(groups=[TWO, SMALL])
    streams = Streams()
    masked = MaskedViews(views=maker, masked=[0, 1], patch_size=4)(IMAGE, streams)
    plain = maker(IMAGE, Streams())
    assert all(torch.equal(a, b) for a, b in zip(masked.images, plain.images, strict=True))
    assert streams.asked == [0, 1, 2, 3, 4, MASKS, MASKS + 1]
    assert [mask is not None for mask in masked.masks] == [True, True, False, False, False]


def test_each_view_and_each_image_has_a_mask_of_its_own() -> None:
    maker = MaskedViews(views=TWO, patch_size=1)
    masks = [mask for image in range(4) for mask in maker(IMAGE, Streams(image)).masks]
    assert len({mask.tobytes() for mask in masks if mask is not None}) == 8


def test_the_mask_of_a_view_does_not_depend_on_which_others_have_one() -> None:
    both = MaskedViews(views=TWO, patch_size=2)(IMAGE, Streams()).masks
    second = MaskedViews(views=TWO, masked=[1], patch_size=2)(IMAGE, Streams()).masks
    assert second[0] is None
    assert np.array_equal(both[1], second[1])  # type: ignore[arg-type]  # both are there


def test_what_the_maker_says_is_passed_on() -> None:
    inputs = SeveralInputs(names=["a", "b"], views=[TWO, RotatedViews(transforms=[CenterCrop(size=8)])])
    maker = MaskedViews(views=inputs, masked=[1], patch_size=4)
    assert dict(maker.inputs) == {"a": 2, "b": 1}
    assert maker.num_classes == 4
    assert maker(IMAGE, Streams()).label == inputs(IMAGE, Streams()).label
    assert list(maker.crop_sizes) == [16, 16, 8]
    assert list(maker.mask_grids) == [None, (4, 4), None]
    everywhere = MaskedViews(views=MultiCrop(groups=[TWO, SMALL]), patch_size=4)
    assert list(everywhere.mask_grids) == [(4, 4)] * 2 + [(2, 2)] * 3


@pytest.mark.parametrize("ratios", [[(0.3, 0.0)], [(0.3, 0.2)], [(0.1, 0.1), (0.7, 0.05)]])
@pytest.mark.parametrize("shape", Shape)
def test_shares(shape: Shape, ratios: list[tuple[float, float]]) -> None:
    """Never more than is wanted; exactly that for single patches, nearly for blocks."""
    maker = MaskedViews(views=TWO, ratios=ratios, shape=shape)
    masks = drawn(maker, 200)
    shares = np.array([mask.mean() for mask in masks])
    wanted = []
    for number in range(200):
        stream = Streams(number)(0)
        mean, spread = ratios[int(stream.integers(len(ratios)))]
        wanted.append(math.floor(196 * (mean + spread * stream.uniform(-1, 1))))
    counts = np.array([int(mask.sum()) for mask in masks])
    assert (counts <= wanted).all()
    if shape is Shape.RANDOM:
        assert counts.tolist() == wanted
    else:
        assert counts.sum() > 0.9 * sum(wanted)
    lowest, highest = min(m - d for m, d in ratios), max(m + d for m, d in ratios)
    assert shares.max() <= highest
    assert shares.min() >= (lowest - 1 / 196 if shape is Shape.RANDOM else 0.0)
    if len(ratios) == 2:
        assert 0.3 < (shares > 0.4).mean() < 0.7, "either pair, half of the time"


def test_single_patches_are_anywhere() -> None:
    masks = drawn(MaskedViews(views=TWO, ratios=[(0.5, 0.0)], shape=Shape.RANDOM), 400, (4, 4))
    often = np.mean(masks, axis=0)
    assert often.min() > 0.4
    assert often.max() < 0.6


def rectangle(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int]:
    """The sides of the only rectangle that is masked."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    return len(rows), len(columns)


def test_a_block_is_a_rectangle_inside_the_grid() -> None:
    """Of at least (shorter side // 3)^2 patches (up to rounding), with the aspect ratios of a range, anywhere."""
    maker = MaskedViews(views=TWO)
    empty = np.zeros(GRID, dtype=bool)
    found = [maker._with_block(empty, 60, Streams(number)(0)) for number in range(400)]
    blocks = [mask for mask in found if mask is not None]
    assert len(blocks) > 350
    sides = np.array([rectangle(mask) for mask in blocks])
    areas, ratios = sides.prod(axis=1), sides[:, 0] / sides[:, 1]
    assert areas.max() <= 60
    assert areas.min() >= 12
    assert np.median(areas) > 30
    assert 0.2 < ratios.min() < 0.5
    assert 2 < ratios.max() < 5
    assert abs(np.log(ratios).mean()) < 0.15, "as often high as wide"
    corners = {(mask[0, 0], mask[0, -1], mask[-1, 0], mask[-1, -1]) for mask in blocks}
    assert {(True, False, False, False), (False, False, False, True), (False, False, False, False)} <= corners


def test_blocks_are_together_and_single_patches_are_not() -> None:
    """A masked patch has more masked neighbours in blocks than at random with the same share."""

    def neighbours(masks: list[Bool[np.ndarray, "h w"]]) -> float:
        pairs = sum(int((mask[1:] & mask[:-1]).sum() + (mask[:, 1:] & mask[:, :-1]).sum()) for mask in masks)
        return pairs / sum(int(mask.sum()) for mask in masks)

    blocks, single = (neighbours(drawn(MaskedViews(views=TWO, shape=shape), 40)) for shape in Shape)
    assert blocks > 1.4
    assert single < 0.8


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (6, 6), (3, 20)])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.99])
def test_any_grid_ends(grid: tuple[int, int], ratio: float) -> None:
    for shape in Shape:
        for mask in drawn(MaskedViews(views=TWO, ratios=[(ratio, 0.0)], shape=shape), 20, grid):
            assert mask.shape == grid
            assert mask.sum() <= ratio * grid[0] * grid[1]


def test_what_is_wrong_comes_at_once() -> None:
    config = MaskedViewsConf(
        views=RepeatViewsConf(num_views=2, transforms=[CenterCropConf(size=15)]),
        masked=[1, 5],
        patch_size=4,
        ratios=[(0.3, 0.0), (0.3, 0.4), (0.9, 0.1)],
        aspect=(2.0, 1.0),
    )
    problems = {problem.path: problem.message for problem in problems_of(config, FACTS)}
    assert problems.keys() == {"ratios.1", "ratios.2", "aspect", "masked", "patch_size"}
    assert problems["masked"] == "there is no view 5; views are 0 to 1"
    assert problems["patch_size"] == "got 4, which does not divide the view's 15 pixels"
    assert "is (0.3, 0.4)" in problems["ratios.1"]
    empty = MaskedViewsConf(views=RepeatViewsConf(transforms=[CenterCropConf(size=16)]), masked=[])
    assert [problem.path for problem in problems_of(empty, FACTS)] == ["masked"]
    whole = MaskedViewsConf(views=RepeatViewsConf(transforms=[CenterCropConf(size=16)]))
    assert [problem.path for problem in problems_of(MaskedViewsConf(views=whole), FACTS)] == ["views"]


def test_views_are_counted_within_the_maker() -> None:
    """As one of several makers: view 0 is its own first one, of 8 pixels, not the first of all, of 15."""
    masked = MaskedViewsConf(
        views=RepeatViewsConf(num_views=1, transforms=[CenterCropConf(size=8)]), masked=[0], patch_size=4
    )
    plain = RepeatViewsConf(num_views=2, transforms=[CenterCropConf(size=15)])
    facts = dataclasses.replace(FACTS, num_views=3, crop_sizes=(15, 15, 8))
    assert not problems_of(MultiCropConf(groups=[plain, masked]), facts)

"""Image to views: streams, groups, inputs, and what is wrong with them; RandomApply: all or nothing, in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from facts import FACTS
from transforms.streams import IMAGE, Noted, Streams

from ssltyped.config import ConfigError, build, check
from ssltyped.config.resolve import problems_of, warnings_of
from ssltyped.transforms.blur import GaussianBlurConf
from ssltyped.transforms.colour import ColorDistortion
from ssltyped.transforms.geometry import (
    CenterCrop,
    CenterCropConf,
    HorizontalFlip,
    HorizontalFlipConf,
    RandomResizedCrop,
    ResizeConf,
)
from ssltyped.transforms.masks import MaskedViews
from ssltyped.transforms.opencv import to_image
from ssltyped.transforms.patches import PatchViews, PatchViewsConf
from ssltyped.transforms.rotation import RotatedViews, RotatedViewsConf
from ssltyped.transforms.views import (
    MultiCrop,
    MultiCropConf,
    RandomApply,
    RandomApplyConf,
    RepeatViews,
    RepeatViewsConf,
    SeveralInputs,
    SeveralInputsConf,
    from_view,
)
from ssltyped.types import Image, Random, Transform, ViewMaker


def test_each_view_draws_from_its_own_stream() -> None:
    streams = Streams()
    maker = RepeatViews(num_views=3, transforms=[RandomResizedCrop(size=16), ColorDistortion()])
    views = maker(IMAGE, streams).images
    assert streams.asked == [0, 1, 2]
    assert [view.shape for view in views] == [(3, 16, 16)] * 3
    more = RepeatViews(num_views=5, transforms=maker.transforms)(IMAGE, Streams()).images
    assert all(torch.equal(a, b) for a, b in zip(views, more, strict=False))
    assert not torch.equal(views[0], views[1])


def test_crop_sizes_are_those_of_the_last_crop() -> None:
    chain = [RandomResizedCrop(size=40), RandomResizedCrop(size=24), HorizontalFlip()]
    assert list(RepeatViews(num_views=3, transforms=[*chain]).crop_sizes) == [24, 24, 24]


def test_without_a_size_it_is_an_error() -> None:
    flat = RepeatViewsConf(transforms=[HorizontalFlip()])
    assert [problem.path for problem in RepeatViews.problems(flat, FACTS)] == ["transforms"]
    with pytest.raises(ValueError, match="size"):
        _ = RepeatViews(transforms=[HorizontalFlip()]).crop_sizes


# --- several makers -------------------------------------------------------------------------------------------


def crops(count: int, size: int) -> RepeatViews:
    return RepeatViews(num_views=count, transforms=[RandomResizedCrop(size=size), ColorDistortion()])


def same(a: Sequence[Image], b: Sequence[Image]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_views_of_groups_are_their_own_views_from_the_same_streams() -> None:
    groups = [crops(2, 16), crops(3, 8), crops(1, 16)]
    maker, streams = MultiCrop(groups=[*groups]), Streams()
    views = maker(IMAGE, streams).images
    assert streams.asked == [0, 1, 2, 3, 4, 5]
    assert list(maker.crop_sizes) == [view.shape[1] for view in views] == [16, 16, 8, 8, 8, 16]
    assert same(views[:2], groups[0](IMAGE, Streams()).images)
    assert same(views[2:5], groups[1](IMAGE, from_view(Streams(), 2)).images)
    assert same(views[5:], groups[2](IMAGE, from_view(Streams(), 5)).images)
    assert dict(maker.inputs) == {"images": 6}
    assert not maker.mask_grids
    assert maker.num_classes is None


def test_more_views_at_the_end_do_not_move_the_others() -> None:
    few = MultiCrop(groups=[crops(2, 16)])(IMAGE, Streams()).images
    many = MultiCrop(groups=[crops(2, 16), crops(6, 8)])(IMAGE, Streams()).images
    assert same(few, many[:2])


MAKERS: dict[str, Callable[[list[Transform]], ViewMaker]] = {
    "repeat": lambda chain: RepeatViews(num_views=3, transforms=[CenterCrop(size=8), *chain]),
    "rotated": lambda chain: RotatedViews(transforms=[CenterCrop(size=8), *chain]),
    "patches": lambda chain: PatchViews(transforms=[CenterCrop(size=24)], patch_transforms=chain, jitter=2),
    "masked": lambda chain: MaskedViews(
        views=RepeatViews(num_views=3, transforms=[CenterCrop(size=8), *chain]), patch_size=2
    ),
}


@pytest.mark.parametrize("first", MAKERS)
@pytest.mark.parametrize("second", MAKERS)
def test_no_stream_is_used_by_two_groups(first: str, second: str) -> None:
    """What each group draws differs from what the other draws, also when it draws more than images."""
    note, other = Noted(), Noted()
    maker = MultiCrop(groups=[MAKERS[first]([note]), MAKERS[second]([other])])
    streams = Streams()
    maker(IMAGE, streams)
    assert len(set(streams.asked)) == len(streams.asked), "no stream is started twice"
    drawn = [*note.drawn, *other.drawn]
    assert len(set(drawn)) == len(drawn) == len(maker.crop_sizes)


def test_masks_of_groups() -> None:
    """A group without masks has none; those of the others are what they would be at their place."""
    masked = MaskedViews(views=crops(2, 8), masked=[1], patch_size=2)
    maker = MultiCrop(groups=[crops(1, 16), masked])
    views = maker(IMAGE, Streams())
    assert list(maker.mask_grids) == [None, None, (4, 4)]
    assert [mask is not None for mask in views.masks] == [False, False, True]
    alone = masked(IMAGE, from_view(Streams(), 1))
    assert same(views.images[1:], alone.images)
    assert np.array_equal(views.masks[2], alone.masks[1])  # type: ignore[arg-type]  # it is there


def test_a_group_may_label_the_image() -> None:
    maker = MultiCrop(groups=[crops(1, 16), RotatedViews(transforms=[CenterCrop(size=8)])])
    assert maker.num_classes == 4
    labels = {maker(IMAGE, Streams(number)).label for number in range(40)}
    assert labels == {0, 1, 2, 3}
    assert MultiCrop(groups=[crops(1, 16)])(IMAGE, Streams()).label is None


def test_two_labels_are_a_problem() -> None:
    chain = [CenterCropConf(size=24), HorizontalFlipConf()]
    groups = [RotatedViewsConf(transforms=[*chain]), PatchViewsConf(transforms=[*chain], num_permutations=3, jitter=2)]
    for config in (
        MultiCropConf(groups=[*groups]),
        SeveralInputsConf(names=["turned", "patches"], views=[*groups]),
    ):
        (problem,) = problems_of(config, dataclasses.replace(FACTS, num_views=10, crop_sizes=(24,) + (3,) * 9))
        assert "2 of the makers label the image ([0, 1]): one may" in problem.message


class Prepared(RepeatViews):
    """Counts how often it is prepared.

    Args:
        transforms: of the views.
    """

    def __init__(self, *, transforms: list[Transform]) -> None:
        super().__init__(num_views=1, transforms=transforms)
        self.times = 0

    def prepare(self) -> None:
        self.times += 1


def test_every_maker_is_prepared() -> None:
    makers = [Prepared(transforms=[CenterCrop(size=8)]) for _ in range(2)]
    MaskedViews(views=SeveralInputs(names=["a", "b"], views=[*makers]), patch_size=2).prepare()
    assert [maker.times for maker in makers] == [1, 1]


# --- several inputs -------------------------------------------------------------------------------------------


def test_inputs_are_named_and_counted() -> None:
    patches = PatchViews(transforms=[CenterCrop(size=24)], jitter=2, num_permutations=6)
    maker = SeveralInputs(names=["images", "patches"], views=[crops(2, 16), patches])
    views = maker(IMAGE, Streams())
    assert dict(maker.inputs) == {"images": 2, "patches": 9}
    assert list(maker.inputs) == ["images", "patches"]
    assert list(maker.crop_sizes) == [view.shape[1] for view in views.images] == [16] * 2 + [6] * 9
    assert same(views.images, MultiCrop(groups=[crops(2, 16), patches])(IMAGE, Streams()).images)
    assert views.label in range(6)
    assert maker.num_classes == 6
    assert not maker.mask_grids


@pytest.mark.parametrize("names", [["images"], ["images", "images"], ["a", "b", "c"]])
def test_names_are_one_a_maker(names: list[str]) -> None:
    views = [RepeatViewsConf(transforms=[CenterCropConf(size=8)])] * 2
    with pytest.raises(ConfigError, match=r"^views: names are .* for 2 view makers"):
        build(SeveralInputsConf(names=names, views=[*views]), "views")


def test_a_mistake_in_a_group_has_its_path() -> None:
    """All of them at once."""
    flat = RepeatViewsConf(transforms=[HorizontalFlipConf()])
    patches = PatchViewsConf(transforms=[CenterCropConf(size=24)], num_patches=8, jitter=99)
    problems = problems_of(MultiCropConf(groups=[flat, MultiCropConf(groups=[patches])]), FACTS)
    assert [problem.path for problem in problems] == ["groups.0.transforms", "groups.1.groups.0.num_patches"]


# --- a chain with a probability --------------------------------------------------

SMALL = to_image(np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8))


class Add(Transform):
    """x + number, and a record of the order."""

    def __init__(self, number: int, seen: list[int]) -> None:
        self.number, self.seen = number, seen

    def __call__(self, image: Image, random: Random) -> Image:
        self.seen.append(self.number)
        return image + self.number


def test_all_in_order_or_none() -> None:
    seen: list[int] = []
    apply, draw = RandomApply(transforms=[Add(1, seen), Add(2, seen)], p=0.3), np.random.default_rng(1)
    results = [apply(SMALL, draw) for _ in range(1500)]
    changed = [not torch.equal(result, SMALL) for result in results]
    assert abs(sum(changed) / 1500 - 0.3) < 0.05
    assert all(torch.equal(result, SMALL + 3) for result, did in zip(results, changed, strict=True) if did)
    assert seen == [1, 2] * sum(changed)


def test_certain_and_never() -> None:
    draw = np.random.default_rng(0)
    flip = HorizontalFlip(p=1.0)
    for _ in range(20):
        assert torch.equal(RandomApply(transforms=[flip], p=1.0)(SMALL, draw), SMALL.flip(2))
        assert torch.equal(RandomApply(transforms=[flip], p=0.0)(SMALL, draw), SMALL)


def test_in_a_config() -> None:
    config = RandomApplyConf(transforms=[ResizeConf(size=8), CenterCropConf(size=4), HorizontalFlipConf()], p=1.0)
    assert build(config)(SMALL, np.random.default_rng(0)).shape == (3, 4, 4)
    with pytest.raises(ConfigError, match="transforms"):
        check(RandomApplyConf(transforms=[]))  # type: ignore[config-value]  # the point of it


def test_a_blur_that_is_wider_than_the_view_is_told_where_it_stands() -> None:
    """sigma 2 has a kernel of 13 pixels, also in a RandomApply; before the crop it may be as wide as it likes."""
    blur = RandomApplyConf(transforms=[GaussianBlurConf(radius_max=2.0)])
    for size, fits in ((13, True), (12, False)):
        views = RepeatViewsConf(transforms=[CenterCropConf(size=size), blur])
        paths = [problem.path for problem in warnings_of(views, FACTS)]
        assert paths == ([] if fits else ["transforms.1.transforms.0.radius_max"])
    assert not warnings_of(RepeatViewsConf(transforms=[blur, CenterCropConf(size=8)]), FACTS)
    (problem,) = warnings_of(RepeatViewsConf(transforms=[CenterCropConf(size=12), GaussianBlurConf()]), FACTS)
    assert problem.message == "2 makes a kernel of 13 pixels for views of 12: at most 1.67 fits"
    fitting = GaussianBlurConf(radius_max=1.66)
    assert not warnings_of(RepeatViewsConf(transforms=[CenterCropConf(size=12), fitting]), FACTS)

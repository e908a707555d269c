"""Which way up: the label is the turn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from facts import FACTS
from transforms.streams import IMAGE, Noted, Streams

from ssltyped.config.resolve import problems_of
from ssltyped.transforms.geometry import CenterCrop, HorizontalFlipConf, RandomResizedCrop
from ssltyped.transforms.opencv import to_array
from ssltyped.transforms.rotated import RotatedViews, RotatedViewsConf
from ssltyped.transforms.rotation import rotate


def test_the_label_is_the_number_of_quarter_turns() -> None:
    """Counter-clockwise: the right column becomes the top row."""
    maker = RotatedViews(transforms=[CenterCrop(size=16)])
    upright = CenterCrop(size=16)(IMAGE, Streams()(0))
    labels = []
    for image in range(80):
        views = maker(IMAGE, Streams(image))
        (view,) = views.images
        assert views.label is not None
        assert torch.equal(view, torch.rot90(upright, views.label, (1, 2)))
        labels.append(views.label)
    assert np.bincount(labels, minlength=4).min() >= 10, "uniform: 20 each"
    (turned,) = next(v for v in (maker(IMAGE, Streams(i)) for i in range(80)) if v.label == 1).images
    assert torch.equal(turned[:, 0], upright[:, :, -1])


def test_other_angles_are_equal_parts_of_a_turn() -> None:
    maker = RotatedViews(transforms=[CenterCrop(size=16)], num_angles=6)
    upright = to_array(CenterCrop(size=16)(IMAGE, Streams()(0)))
    for image in range(30):
        views = maker(IMAGE, Streams(image))
        assert views.label is not None
        assert np.array_equal(to_array(views.images[0]), rotate(upright, 60.0 * views.label))
    assert maker.num_classes == 6


def test_the_turn_comes_after_the_chain_and_draws_after_it() -> None:
    note, streams = Noted(), Streams(2)
    maker = RotatedViews(transforms=[RandomResizedCrop(size=8), note])
    views = maker(IMAGE, streams)
    assert streams.asked == [0]
    stream = Streams(2)(0)
    upright = RandomResizedCrop(size=8)(IMAGE, stream)
    stream.random()
    assert views.label == int(stream.integers(4))
    assert torch.equal(views.images[0], torch.rot90(upright, views.label, (1, 2)))
    assert list(maker.crop_sizes) == [8]


def test_without_a_size_it_is_an_error() -> None:
    (problem,) = problems_of(RotatedViewsConf(transforms=[HorizontalFlipConf()]), FACTS)
    assert problem.path == "transforms"
    with pytest.raises(ValueError, match="no transform has a `size`"):
        _ = RotatedViews(transforms=[]).crop_sizes

"""What a trunk is told about its images: colours, channels, and what cannot work."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from facts import FACTS
from tiny import tiny
from torch import Tensor

from ssltyped import ConfigError, override
from ssltyped.experiment import resolve_experiment
from ssltyped.trunks.input import Input, InputColor, InputConf
from ssltyped.trunks.resnet import ResNet


def images(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(1))


def test_what_is_seen_of_a_colour() -> None:
    rgb, bgr, lab = (Input(color=color) for color in InputColor)
    assert [input.seen_channels for input in (rgb, bgr, lab, Input(channels=7))] == [3, 3, 1, 7]
    assert torch.equal(rgb.see(images()), images())
    assert torch.equal(bgr.see(images()), images()[:, [2, 1, 0]])
    assert torch.equal(lab.see(images()), images()[:, :1])
    assert torch.equal(Input(channels=7).see(images(7)), images(7))


@pytest.mark.parametrize("color", [InputColor.BGR, InputColor.LAB])
def test_a_colour_order_needs_three_channels(color: InputColor) -> None:
    text = f"{color.value.upper()} is an order of 3 channels; channels is 4"
    problems = list(Input.problems(InputConf(channels=4, color=color), FACTS))
    assert [(problem.path, problem.message) for problem in problems] == [("color", text)]
    with pytest.raises(ValueError, match=text):
        Input(channels=4, color=color)


def test_one_split_is_no_split_and_refused() -> None:
    assert [p.path for p in Input.problems(InputConf(checkpoint_splits=1), FACTS)] == ["checkpoint_splits"]
    with pytest.raises(ValueError, match="1 has no effect"):
        Input(checkpoint_splits=1)


def test_channels_are_those_of_the_data() -> None:
    five = dataclasses.replace(FACTS, num_channels=5)
    assert not list(Input.problems(InputConf(channels=5), five))
    (problem,) = Input.problems(InputConf(), five)
    assert (problem.path, problem.message) == ("channels", "got 3, but data.mean has 5 values")


def test_every_trunk_has_one_of_its_own() -> None:
    first, second = ResNet(depth=18), ResNet(depth=18)
    assert (first.input.channels, first.input.color, first.input.checkpoint_splits) == (3, InputColor.RGB, 0)
    assert first.input is not second.input


@pytest.mark.parametrize(
    ("change", "says"),
    [("channels=4", "got 4, but data.mean has 3 values"), ("checkpoint_splits=1", "1 has no effect")],
)
def test_a_recipe_checks_it(change: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_experiment(override(tiny(), [f"trunk.input.{change}"]))
    (problem,) = caught.value.problems
    assert problem.path.startswith("trunk.input")
    assert change.partition("=")[0] in str(problem)
    assert says in problem.message

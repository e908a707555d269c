"""Facts that follow from others, and what a part says about itself."""

from __future__ import annotations

import dataclasses
import pickle
import re

import pytest
from facts import FACTS

from ssltyped.config.component import Component, ConfigError, Facts, Inference, Problem
from ssltyped.types import Callback, Loss


def test_an_error_is_the_same_in_another_process() -> None:
    error = ConfigError([Problem("loss.temperature", "got 0"), Problem("", "and more")])
    sent = pickle.loads(pickle.dumps(error))
    assert (sent.problems, str(sent)) == (error.problems, str(error))


@pytest.mark.parametrize(("world", "a_node", "nodes"), [(1, 1, 1), (8, 8, 1), (8, 4, 2), (64, 8, 8)])
def test_nodes(world: int, a_node: int, nodes: int) -> None:
    assert dataclasses.replace(FACTS, world_size=world, ranks_per_node=a_node).nodes == nodes


@pytest.mark.parametrize(
    ("world", "batch", "accumulation", "images", "step", "steps"),
    [
        (1, 16, 1, 160, 16, 10),
        (1, 16, 1, 175, 16, 10),
        (1, 16, 1, 176, 16, 11),
        (4, 16, 2, 1000, 128, 7),
        (2, 8, 1, 15, 16, 0),
        (2, 8, 1, None, 16, None),
    ],
)
def test_images_a_step_and_steps_an_epoch(
    world: int, batch: int, accumulation: int, images: int | None, step: int, steps: int | None
) -> None:
    """The rest of an epoch makes no step; an unknown number of images no number of steps."""
    facts = dataclasses.replace(FACTS, world_size=world, batch_size=batch, accumulation=accumulation, num_images=images)
    assert facts.global_batch_size == step
    assert facts.steps_per_epoch == steps


def test_what_is_not_known_is_none_empty_or_there() -> None:
    needed = {field.name for field in dataclasses.fields(Facts) if field.default is dataclasses.MISSING}
    needed -= {field.name for field in dataclasses.fields(Facts) if field.default_factory is not dataclasses.MISSING}
    assert needed == {
        "world_size", "ranks_per_node", "batch_size", "accumulation", "num_views", "crop_sizes", "feature_dims",
    }  # fmt: skip
    others = [getattr(FACTS, field.name) for field in dataclasses.fields(Facts) if field.name not in needed]
    assert all(value is None or isinstance(value, bool) or len(value) == 0 for value in others)
    with pytest.raises(dataclasses.FrozenInstanceError):
        FACTS.batch_size = 3  # type: ignore[misc]  # facts do not change


def test_a_part_says_nothing_unless_it_does() -> None:
    assert not list(Component.infer(Component(), FACTS))
    assert not list(Component.problems(Component(), FACTS))


def test_a_problem_reads_as_path_and_message() -> None:
    assert str(Problem("trunk.depth", "is 7")) == "trunk.depth: is 7"
    assert str(Problem("", "is 7")) == "is 7"
    assert Inference("lr", 0.3, "rule") == Inference("lr", 0.3, "rule")


class Kind(Component):
    """Says which hooks it has."""

    hooks = (*Component.hooks, "on_start")

    def on_start(self) -> None: ...


@pytest.mark.parametrize(
    ("base", "name", "says"),
    [
        (Component, "infers", "did you mean 'infer'?"),
        (Component, "problem", "did you mean 'problems'?"),
        (Component, "before_step", "known: publish, infer, problems"),
        (Kind, "on_starts", "did you mean 'on_start'?"),
        (Kind, "on_end", "known: publish, infer, problems, warnings, on_start"),
        (Loss, "after_updates", ""),
        (Loss, "on_step", ""),
        (Callback, "on_epoch_ends", "did you mean 'on_epoch_end'?"),
    ],
)
def test_a_misspelt_hook_is_refused(base: type[Component], name: str, says: str) -> None:
    def hook(self: object) -> None: ...

    with pytest.raises(TypeError, match=rf"Mine\.{name} is no hook and would never be called; .*{re.escape(says)}"):
        type("Mine", (base,), {name: hook})
    with pytest.raises(TypeError, match=f"Mine.{name} is no hook"):
        type("Mine", (base,), {name: classmethod(hook)})


def test_other_methods_are_ones_own() -> None:
    def method(self: object) -> None: ...

    type("Mine", (Kind,), {"on_start": method, "grow": method, "_infers": method, "infers": 3, "infer": method})

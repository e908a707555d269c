"""Inference: what is filled, what is a contradiction, and that a resolved config is at rest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Optional, Self

import numpy as np
import pytest
from facts import FACTS
from recipes_shipped import TRAININGS

from recipes.quickstart import quickstart
from recipes.simclr import simclr
from ssltyped import config
from ssltyped.cli.recipe import load_recipe
from ssltyped.config import INFERRED, ConfigError, config_for, from_yaml, get, to_yaml
from ssltyped.config.overrides import override
from ssltyped.config.resolve import Row, resolve
from ssltyped.experiment import Experiment
from ssltyped.resolution import FactFinder, resolve_experiment
from ssltyped.types import Component, Facts, Inference, Problem


class Twice(Component):
    """value = 2 x the batch, given only by a rule."""

    def __init__(self, *, value: Optional[int] = None, limit: int = 1000) -> None:
        self.value, self.limit = value, limit

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield Inference("value", 2 * facts.batch_size, f"2 x {facts.batch_size}")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.value is not None and config.value > config.limit:
            yield Problem("value", f"{config.value} is above {config.limit}")


class Chain(Component):
    """after = twice.value + 1, which is known one round later; an outer rule for an inner field."""

    def __init__(
        self,
        *,
        twice: Twice,
        after: Optional[int] = None,
        share: Optional[float] = None,
        sizes: Optional[list[int]] = None,
    ) -> None:
        self.twice, self.after, self.share, self.sizes = twice, after, share, sizes

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.twice.value is not None:
            yield Inference("after", config.twice.value + 1, "one more")
        yield Inference("twice.value", 2 * facts.batch_size, "the outer part says so too")
        yield Inference("share", 1 / 3, "a third")
        yield Inference("sizes", [1, 2], "two")


TwiceConf = config_for(Twice)
ChainConf = config_for(Chain)


def facts_of(part: object) -> Facts:
    return FACTS


def problems(asked: Experiment) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        resolve_experiment(asked)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_what_is_none_is_filled_and_told() -> None:
    resolution = resolve(TwiceConf(), facts_of)
    assert resolution.config == TwiceConf(value=32)
    assert resolution.rows == (Row(field="value", before=None, value=32, rule="2 x 16"),)
    assert resolution.facts == FACTS


def test_inferences_follow_one_another_and_the_outer_rule_of_a_field_counts() -> None:
    resolution = resolve(ChainConf(twice=TwiceConf()), facts_of)
    assert (resolution.config.twice.value, resolution.config.after) == (32, 33)
    assert [row.field for row in resolution.rows] == ["twice.value", "share", "sizes", "after"]
    assert resolution.rows[0].rule == "the outer part says so too"


def test_what_was_asked_for_is_not_changed() -> None:
    asked = ChainConf(twice=TwiceConf())
    resolve(asked, facts_of)
    assert asked == ChainConf(twice=TwiceConf())


def test_a_value_that_agrees_is_kept_and_is_no_row() -> None:
    resolution = resolve(TwiceConf(value=32), facts_of)
    assert resolution.config == TwiceConf(value=32)
    assert resolution.rows == ()


@pytest.mark.parametrize("share", [1 / 3, 0.3333333333, 0.33333333333333337])
def test_a_float_agrees_to_rounding(share: float) -> None:
    assert resolve(ChainConf(twice=TwiceConf(), share=share), facts_of).config.share == share


@pytest.mark.parametrize(
    ("asked", "path", "given", "inferred"),
    [
        (ChainConf(twice=TwiceConf(value=33)), "twice.value", "33", "32"),
        (ChainConf(twice=TwiceConf(), share=0.3333), "share", "0.3333", "0.333333"),
        (ChainConf(twice=TwiceConf(), sizes=[1, 3]), "sizes", "[1, 3]", "[1, 2]"),
        (ChainConf(twice=TwiceConf(), sizes=[1]), "sizes", "[1]", "[1, 2]"),
    ],
)
def test_a_contradiction_names_the_field_both_values_and_the_rule(
    asked: Chain, path: str, given: str, inferred: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(asked, facts_of)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert f"got {given}" in problem.message
    assert inferred in problem.message
    assert any(rule in problem.message for rule in ("the outer part", "a third", "two"))


def test_contradictions_come_all_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(ChainConf(twice=TwiceConf(value=3), share=0.1, sizes=[]), facts_of)
    assert [problem.path for problem in caught.value.problems] == ["twice.value", "share", "sizes"]


def test_problems_of_parts_have_the_path_of_the_part() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(ChainConf(twice=TwiceConf(limit=5)), facts_of)
    assert caught.value.problems == [Problem("twice.value", "32 is above 5")]


def test_a_wrong_type_is_found_before_anything_is_inferred() -> None:
    def never(part: object) -> Facts:
        raise AssertionError("asked for facts")

    with pytest.raises(ConfigError, match="limit: got 'x'"):
        resolve(TwiceConf(limit="x"), never)  # type: ignore[arg-type]  # the point of the test


def test_a_fact_that_a_part_cannot_give_is_the_users_mistake() -> None:
    def cannot(part: object) -> Facts:
        raise ValueError("no size")

    with pytest.raises(ConfigError, match="no size"):
        resolve(TwiceConf(), cannot)


def test_facts_are_asked_again_after_each_round() -> None:
    seen: list[Optional[int]] = []

    def watched(part: Twice) -> Facts:
        seen.append(part.value)
        return FACTS

    resolve(TwiceConf(), watched)
    assert seen == [None, 32]


def test_the_rows_as_json() -> None:
    resolution = resolve_experiment(simclr())
    listed = json.loads(resolution.to_json())
    assert [set(row) for row in listed] == [{"field", "from", "to", "rule"}] * len(resolution.rows)
    assert {
        "field": "heads.projector.in_dim",
        "from": None,
        "to": 2048,
        "rule": "width of the trunk's flatten",
    } in listed


# --- the shipped recipes ------------------------------------------------------------------------------------------


def startable(name: str, folder: Path) -> Experiment:
    """A recipe with images, and with what another run has left for it."""
    recipe, left = load_recipe(name), folder / "left.npy"
    np.save(left, np.arange(1400) % 7)
    required = str(recipe.data.train.path) == config.REQUIRED
    images = ["data.train.path=not_here", "data.train.num_images=10000"] if required else []
    labels = [f"data.train.labels={left}"] if recipe.data.train.labels else []
    teacher = [f"loss.teacher.weights={left}"] if hasattr(recipe.loss, "teacher") else []
    return override(recipe, [*images, *labels, *teacher])


@pytest.mark.parametrize("name", TRAININGS)
def test_a_resolved_recipe_is_at_rest_also_after_yaml(name: str, tmp_path: Path) -> None:
    find = FactFinder()
    resolution = resolve_experiment(startable(name, tmp_path), "mine", find)
    assert resolution.rows
    again = resolve_experiment(resolution.config, "another", find)
    assert again.rows == ()
    assert again.config == resolution.config
    read: Experiment = from_yaml(to_yaml(resolution.config))
    assert read == resolution.config
    assert to_yaml(resolve_experiment(read, "third", find).config) == to_yaml(resolution.config)


@pytest.mark.parametrize("name", TRAININGS)
def test_every_row_was_none_is_what_it_says_and_nothing_else_changed(name: str, tmp_path: Path) -> None:
    asked = startable(name, tmp_path)
    resolution = resolve_experiment(asked, "mine")
    for row in resolution.rows:
        assert row.before is None
        assert row.rule
        assert get(resolution.config, row.field) == row.value
    back = config.replaced(resolution.config, {row.field: None for row in resolution.rows} | {"name": asked.name})
    assert back == config.check(asked)


def test_the_numbers_of_simclr_on_eight_nodes() -> None:
    found = resolve_experiment(simclr(nodes=8), "simclr_8node").config
    assert found.global_batch_size == 8 * 8 * 64 == 4096
    assert get(found, "optimizer.rate.lr") == pytest.approx(0.3 * 4096 / 256)
    assert found.steps == 100 * (1281167 // 4096)
    assert found.heads["projector"].in_dim == 2048
    assert found.name == "simclr_8node"


@pytest.mark.parametrize(
    ("text", "path", "inferred"),
    [
        ("optimizer.rate.lr=0.1", "optimizer.rate.lr", "4.8"),
        ("global_batch_size=1000", "global_batch_size", "4096"),
        ("heads.projector.in_dim=512", "heads.projector.in_dim", "2048"),
        ("steps=10", "epochs", "1"),
    ],
)
def test_a_value_of_the_users_that_contradicts_is_refused_not_overwritten(text: str, path: str, inferred: str) -> None:
    found = problems(override(simclr(nodes=8), [text]))
    assert list(found) == [path]
    assert f"{inferred} follows from the rest" in found[path]


@pytest.mark.parametrize(
    ("texts", "path", "message"),
    [
        (["heads.projector.feature=layer9"], "heads.projector.feature", "the trunk has no feature 'layer9'"),
        (["~heads.projector"], "heads", "at least one is needed"),
        (["data.train.batch_size=2000"], "data.train.batch_size", "use a smaller batch"),
        (["epochs=null"], "epochs", "give epochs or steps"),
        (["data.train.views.num_views=3"], "loss", "exactly 2 views"),
        (["data.train.views.transforms=[]"], "", "no transform has a `size`"),
        (["trunk.groupnorm_groups=8"], "", "has no effect"),
    ],
)
def test_what_cannot_work_although_the_types_are_right(texts: list[str], path: str, message: str) -> None:
    found = problems(override(quickstart(), texts))
    assert any(path in where and message in said for where, said in found.items()), found


class Hasty(Component):
    def __init__(self, *, names: list[str] = INFERRED, label: str = INFERRED) -> None:
        self.names, self.label = names, label

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield Problem("", f"{len(config.names)}")


class Hastier(Hasty):
    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield Problem("", config.label.upper())


HastyConf, HastierConf = config_for(Hasty), config_for(Hastier)


@pytest.mark.parametrize("part", [HastyConf(), HastierConf()])
def test_a_rule_that_reads_what_is_not_inferred_yet_says_so(part: Component) -> None:
    with pytest.raises(ConfigError, match=r"a rule of Hast\w+ fails: .*None.*; fields that are left to"):
        resolve(part, facts_of)


class Cautious(Component):
    """More than 5 works and may be unwise."""

    def __init__(self, *, size: int) -> None:
        self.size = size

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.size > 5:
            yield Problem("size", f"got {config.size}, which is much")


class Holder(Component):
    """Holds another part."""

    def __init__(self, *, inner: Cautious) -> None:
        self.inner = inner


CautiousConf, HolderConf = config_for(Cautious), config_for(Holder)


def test_what_may_be_unwise_is_said_with_its_path_and_stops_nothing() -> None:
    resolution = resolve(HolderConf(inner=CautiousConf(size=9)), lambda _: FACTS)
    assert [str(warning) for warning in resolution.warnings] == ["inner.size: got 9, which is much"]
    assert resolve(HolderConf(inner=CautiousConf(size=2)), lambda _: FACTS).warnings == ()

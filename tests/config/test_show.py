"""Configs and components as text."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import pytest
from recipes_shipped import TASKS

from recipes.quickstart import quickstart
from ssltyped import config
from ssltyped.cli.recipe import load_root, shipped
from ssltyped.config import catalog
from ssltyped.config.hints import plain
from ssltyped.config.overrides import override
from ssltyped.config.show import component, docs_of, show, show_components, show_fields, table
from ssltyped.heads.mlp import MLPHead, MLPHeadConf
from ssltyped.transforms.geometry import HorizontalFlipConf


class Colour(Enum):
    RED = "red"


class Base:
    """A base.

    Args:
        size: of the base.
        other: only here.
    """


class Derived(Base):
    """Derived.

    Args:
        size: of the derived.
        extra: new.
    """


class Silent(Derived): ...


@pytest.mark.parametrize("name", list(catalog.components()))
def test_every_parameter_of_every_component_has_a_line_of_documentation(name: str) -> None:
    part = component(name)
    docs = docs_of(part.kind)
    assert [parameter for parameter in part.parameters if not docs.get(parameter)] == []


def test_a_parameters_documentation_is_its_own_or_inherited() -> None:
    expected = {"size": "of the derived.", "other": "only here.", "extra": "new."}
    assert docs_of(Derived) == expected
    assert docs_of(Silent) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0.1, "0.1"),
        (1e-6, "1e-06"),
        ("a", "a"),
        (Colour.RED, "red"),
        (Path("a/b"), "a/b"),
        ([1, None, Colour.RED], "[1, null, red]"),
        ((0.5, 1.0), "[0.5, 1.0]"),
        (HorizontalFlipConf(), "HorizontalFlip"),
    ],
)
def test_a_value_as_it_is_written_on_the_command_line(value: object, text: str) -> None:
    assert plain(value) == text


def test_a_config_as_a_tree() -> None:
    lines = show(MLPHeadConf(dims=[8, 4])).splitlines()
    assert lines[:3] == ["MLPHead", "  dims: [8, 4]", "  in_dim: null"]
    assert len(lines) == 1 + len(config.part_of(MLPHeadConf(dims=[1])).parameters)


@pytest.mark.parametrize("name", shipped())
def test_a_tree_shows_every_part_and_field_once(name: str) -> None:
    recipe = load_root(name)
    lines = show(recipe).splitlines()
    lists = sum(line.endswith(":") for line in lines)  # and mappings
    parts = list(config.walk(recipe))
    fields = sum(len(config.part_of(part).parameters) for _, part in parts)
    around = [config.get(recipe, path.rpartition(".")[0]) for path, _ in parts if "." in path]
    in_lists = sum(isinstance(it, list | dict) for it in around)
    assert len(lines) == 1 + fields + in_lists
    assert lists >= 2 or name in TASKS


@pytest.mark.parametrize("name", shipped())
def test_help_shows_every_field_with_path_value_type_and_documentation(name: str) -> None:
    recipe = load_root(name)
    text = show_fields(recipe)
    lines = text.splitlines()
    fields = [
        config.join(path, field) for path, part in config.walk(recipe) for field in config.part_of(part).parameters
    ]
    assert len(lines) == 2 * len(fields)
    for path, first, second in zip(fields, lines[::2], lines[1::2], strict=True):
        shown, _, kind = first.strip().partition("  ")
        assert shown.partition("=")[0] == path
        assert kind.strip()
        assert second.strip()


def test_help_shows_value_type_and_constraint() -> None:
    text = " ".join(show_fields(override(quickstart(), ["loss.temperature=0.25"])).split())
    assert "loss.temperature=0.25 float > 0 T in the equation" in text
    assert "precision=fp32 fp32 | bf16 | fp16" in text
    assert "heads dict of str, Head" in text


def test_the_list_has_every_component_under_its_kind() -> None:
    lines = show_components().splitlines()
    for name in catalog.components():
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"  {name}(")]
        kind = next(line for line in reversed(lines[:at]) if line and not line.startswith(" "))
        assert kind in {base.__name__ for base in component(name).kind.__mro__}
        assert lines[at + 1].startswith("      ")
        assert lines[at + 1].endswith((".", ":"))


def test_a_component_by_its_name() -> None:
    assert component("MLPHead").target is MLPHead


def test_the_table_shows_what_the_runs_do_not_share() -> None:
    rows = [
        (["a=1", "seed=0"], {"loss": 1.23456789, "top1": 0.5}),
        (["a=1", "seed=10"], {"loss": 12345.6}),
    ]
    assert table(rows).splitlines() == [
        "run  overrides  loss       top1",
        "0    seed=0     1.235      0.5",
        "1    seed=10    1.235e+04",
    ]


def test_the_table_of_one_run() -> None:
    assert table([(["a=1"], {"loss": 1.0})]).splitlines() == ["run  overrides  loss", "0    a=1        1"]


def test_the_table_says_what_failed() -> None:
    rows = [(["a=1"], {"loss": 1.0, "top1": 0.5}), (["a=2"], None)]
    assert table(rows).splitlines() == [
        "run  overrides  loss    top1",
        "0    a=1        1       0.5",
        "1    a=2        failed",
    ]
    assert table([(["a=1"], None)]).splitlines() == ["run  overrides", "0    a=1        failed"]

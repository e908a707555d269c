"""Configs: checked as a whole, and built."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import Colour, Leaf, LeafConf, OtherLeaf, OtherLeafConf, StoneConf, StrictConf, Tree, errors, tree

from ssltyped import config
from ssltyped.config import ConfigError, build, check, get
from ssltyped.types import Problem


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [
        ("height", 3, 3.0),
        ("pair", [1, 2], (1, 2.0)),
        ("sizes", (3, 4), [3, 4]),
        ("colour", "blue", Colour.BLUE),
        ("colour", "BLUE", Colour.BLUE),
        ("colour", Colour.BLUE, Colour.BLUE),
        ("kind", "ash", "ash"),
        ("folder", "a/b", Path("a/b")),
        ("either", "three", "three"),
        ("either", 4, 4),
        ("best", None, None),
    ],
)
def test_a_value_becomes_its_declared_type(field: str, given: object, value: object) -> None:
    found = get(check(tree(**{field: given})), field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"height": 0}, "height", "got 0: input should be greater than 0"),
        ({"height": "2"}, "height", "got '2': input should be a valid number"),
        ({"height": True}, "height", "got true: input should be a valid number"),
        ({"height": None}, "height", "got null"),
        ({"height": float("nan")}, "height", "got nan: input should be a finite number"),
        ({"height": float("inf")}, "height", "got inf: input should be a finite number"),
        ({"grows": 1}, "grows", "got 1: input should be true or false"),
        ({"grows": "yes"}, "grows", "got 'yes'"),
        ({"leaf": LeafConf(size=0)}, "leaf.size", "got 0: input should be greater than or equal to 1"),  # type: ignore[config-value]  # the point of it
        ({"leaf": LeafConf(size=10)}, "leaf.size", "got 10: input should be less than or equal to 9"),  # type: ignore[config-value]  # the point of it
        ({"leaf": None}, "leaf", "got null: needs a Leaf (there is Leaf, OtherLeaf"),
        ({"leaf": "Leaf"}, "leaf", "got 'Leaf': needs a Leaf"),
        ({"leaf": StoneConf(weight=1)}, "leaf", "got Stone, which is no Leaf (there is Leaf, OtherLeaf"),
        ({"leaf": Leaf()}, "leaf", "got a built Leaf: give its config, LeafConf(...)"),
        ({"best": StoneConf(weight=1)}, "best", "got Stone, which is no Leaf"),
        ({"leaves": [LeafConf(), StoneConf(weight=1)]}, "leaves.1", "got Stone, which is no Leaf"),
        ({"leaves": [LeafConf(size=0)]}, "leaves.0.size", "got 0"),  # type: ignore[config-value]  # the point of it
        ({"leaves": LeafConf()}, "leaves", "input should be a list, in brackets: list of Leaf"),
        ({"named": {"a": StoneConf(weight=1)}}, "named.a", "got Stone, which is no Leaf"),
        ({"named": {"a": LeafConf(size=0)}}, "named.a.size", "got 0"),  # type: ignore[config-value]  # the point of it
        ({"pair": (1, 2.0, 3)}, "pair", "got [1, 2.0, 3]: has 3 items; want a tuple of int, float"),
        ({"pair": (1,)}, "pair", "got [1]: has 1 item; want a tuple of int, float"),
        ({"pair": (1, "x")}, "pair.1", "got 'x'"),
        ({"pair": (1.5, 2)}, "pair.0", "got 1.5: input should be a valid integer"),
        ({"sizes": []}, "sizes", "got []: has 0 items; want a "),
        ({"sizes": [1, 0]}, "sizes.1", "got 0: input should be greater than 0"),
        ({"colour": "bleu"}, "colour", "got 'bleu': input should be 'red' or 'blue'; did you mean 'blue'?"),
        ({"colour": 3}, "colour", "got 3: input should be 'red' or 'blue'"),
        ({"kind": "oka"}, "kind", "did you mean 'oak'?"),
        ({"folder": None}, "folder", "got null: input should be a path"),
        ({"folder": 3.5}, "folder", "got 3.5: input should be a path"),
        ({"either": [1]}, "either", " or "),
        ({"leaf": config.REQUIRED}, "leaf", "required: Leaf; set it with leaf=VALUE"),
    ],
)
def test_a_wrong_value_is_named_with_its_path_and_what_is_allowed(
    fields: dict[str, object], path: str, message: str
) -> None:
    found = errors(tree(**fields))
    assert list(found) == [path]
    assert message in found[path]


def test_every_error_of_the_whole_tree_comes_at_once() -> None:
    wrong = tree(height=-1, leaf=LeafConf(size=0), leaves=[LeafConf(), LeafConf(size=99)], colour="green")  # type: ignore[config-value]  # the point of it
    assert set(errors(wrong)) == {"height", "leaf.size", "leaves.1.size", "colour"}


def test_a_part_of_the_wrong_kind_is_one_error_whatever_it_lacks() -> None:
    assert list(errors(tree(leaf=StoneConf(weight=config.REQUIRED)))) == ["leaf"]


def test_what_is_right_is_unchanged_and_checking_again_changes_nothing() -> None:
    right = tree(leaves=[OtherLeafConf(colour=Colour.BLUE)], named={"a": LeafConf()}, best=LeafConf(size=3))
    assert check(right) == right
    assert check(check(right)) == check(right)


def test_a_long_value_is_cut_in_an_error() -> None:
    assert len(errors(tree(height="x" * 10_000))["height"]) < 300


def test_an_error_is_a_value_error_with_a_line_a_problem() -> None:
    error = ConfigError([Problem("a.b", "is wrong"), Problem("", "all is wrong")])
    assert isinstance(error, ValueError)
    assert str(error) == "a.b: is wrong\nall is wrong"


def test_build_makes_the_parts_first() -> None:
    built = build(tree(leaves=[OtherLeafConf(), LeafConf(size=3)], named={"a": LeafConf(size=4)}, pair=[3, 4]))
    assert isinstance(built, Tree)
    assert [(type(leaf), leaf.size) for leaf in built.leaves] == [(OtherLeaf, 2), (Leaf, 3)]
    assert built.named["a"].size == 4
    assert built.pair == (3, 4.0)


def test_build_checks_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(Leaf, "__init__", lambda self, size: made.append(size))
    with pytest.raises(ConfigError):
        build(tree(colour="green"))
    assert made == []
    build(LeafConf(size=5))
    assert made == [5]


def test_what_a_constructor_refuses_names_its_part() -> None:
    with pytest.raises(ConfigError) as caught:
        build(tree(strict=StrictConf(low=3, high=2)))
    assert caught.value.problems == [Problem("strict", "low 3.0 is above high 2.0")]
    with pytest.raises(ConfigError) as caught:
        build(StrictConf(low=3, high=2), "tree.strict")
    assert caught.value.problems[0].path == "tree.strict"

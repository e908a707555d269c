"""Configs: the same again after YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import Colour, LeafConf, OtherLeafConf, tree

from ssltyped.config import ConfigError, check, from_yaml, get, key_of, to_yaml


def test_yaml_and_back() -> None:
    value = tree(
        leaves=[OtherLeafConf(colour=Colour.BLUE)],
        named={"a": LeafConf(size=2)},
        folder=Path("a b/${c}"),
        either="${not.a.reference}",
        colour="blue",
    )
    assert from_yaml(to_yaml(value)) == check(value)
    assert key_of(from_yaml(to_yaml(value))) == key_of(check(value))


def test_what_differs_has_another_key() -> None:
    """Also two parts with the same fields, and a number that is equal to another of another type."""
    different = [tree(), tree(leaf=OtherLeafConf()), tree(folder=Path("b")), tree(named={"a": LeafConf(size=2)})]
    different += [tree(colour="red"), tree(either="1"), tree(either=1)]
    assert len({key_of(one) for one in different}) == len(different)
    assert key_of(tree()) == key_of(tree())


@pytest.mark.parametrize(
    "text", ["007", "1e3", "true", "null", "2024-01-01", "a: b", "- x", "'", '"', "é\n", "#", "???x"]
)
def test_a_text_is_the_same_text_after_yaml(text: str) -> None:
    assert get(from_yaml(to_yaml(tree(either=text))), "either") == text


def test_yaml_may_refer_to_other_fields() -> None:
    text = to_yaml(tree()).replace("height: 2.0", "height: ${leaf.size}")
    assert from_yaml(text).height == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "starts with _target_"),
        ("[1, 2]", "starts with _target_"),
        ("a: 1", "starts with _target_"),
        ("a: [", "not a readable YAML config"),
        ("{", "not a readable YAML config"),
        ("a: " + "9" * 5000, "not a readable YAML config"),
        ("[" * 2000 + "]" * 2000, "not a readable YAML config"),
        ("_target_: os.system", "'os.system' is not a registered component"),
        ("_target_: builtins.eval", "is not a registered component"),
        ("_target_: no_such_module.Thing", "cannot be imported: ModuleNotFoundError"),
        ("_target_: 3", "'3'"),
        ("_target_: [1]", "'[1]'"),
        ("_target_: ..os.system", "cannot be imported"),
        ("_target_: trees.Leaf\nsize: 3\nsise: 4", "sise: Leaf has no such field; did you mean 'size'?"),
        ("_target_: trees.Leaf\nsize: x", "size: got 'x': input should be a valid integer"),
        ("_target_: trees.Leaf\nsize: ${no.such}", "size: Interpolation key 'no.such' not found"),
        (
            "_target_: trees.Tree\nheight: 1\nleaf:\n  _target_: os.system",
            "leaf: got 'os.system', which is no registered component (there is Leaf",
        ),
    ],
)
def test_what_is_wrong_in_a_yaml_file(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_yaml(text)
    assert message in str(caught.value)

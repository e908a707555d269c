"""A recipe with other values, by typed fields and by paths."""

from __future__ import annotations

from typing import cast

import pytest
from trees import Colour, LeafConf, OakConf, OtherLeaf, OtherLeafConf, Stone, StoneConf, Tree, TreeConf, tree

import ssltyped
from ssltyped.config import ConfigError, changed, get, part, replaced

FULL = TreeConf(height=2, leaf=OtherLeafConf(), leaves=[LeafConf(), LeafConf(size=7)], named={"a": LeafConf()})


def test_a_field_at_any_depth() -> None:
    assert changed(FULL, lambda t: t.height)(3) == replaced(FULL, {"height": 3})
    assert changed(FULL, lambda t: t.leaf)(LeafConf(size=4)) == replaced(FULL, {"leaf": LeafConf(size=4)})
    assert changed(FULL, lambda t: t.leaves[1].size)(8) == replaced(FULL, {"leaves.1.size": 8})
    assert changed(FULL, lambda t: t.leaves[-1].size)(8) == replaced(FULL, {"leaves.1.size": 8})
    assert changed(FULL, lambda t: t.named["a"].size)(8) == replaced(FULL, {"named.a.size": 8})
    assert changed(FULL, lambda t: t.pair[0])(5).pair == (5, 2.0)
    assert changed(FULL, lambda t: t.best)(None) == FULL
    assert (FULL.height, FULL.leaves[1].size) == (2, 7), "the given one stays"


def test_several_fields_one_after_the_other() -> None:
    grown = changed(FULL, lambda t: t.height)(3)
    assert changed(grown, lambda t: t.colour)(Colour.BLUE) == replaced(FULL, {"height": 3, "colour": Colour.BLUE})


def test_a_part_of_a_kind_that_its_field_does_not_say() -> None:
    want = replaced(FULL, {"leaf.colour": Colour.BLUE})
    assert changed(FULL, lambda t: part(t.leaf, OtherLeaf).colour)(Colour.BLUE) == want
    assert changed(FULL, lambda t: part(t.leaf, OtherLeafConf).colour)(Colour.BLUE) == want
    assert part(FULL.leaf, OtherLeaf) is FULL.leaf
    assert part(cast("object", OakConf()), Tree) == OakConf(), "a function builds the kind that it says"
    with pytest.raises(ConfigError, match=r"^leaves.1: is a Leaf, and not a OtherLeaf$"):
        changed(FULL, lambda t: part(t.leaves[1], OtherLeaf).colour)
    with pytest.raises(ConfigError, match=r"^is a OtherLeaf, and not a Stone$"):
        part(FULL.leaf, StoneConf)
    with pytest.raises(ConfigError, match=r"^best: is a NoneType, and not a Stone$"):
        changed(FULL, lambda t: part(t.best, Stone).weight)


def test_a_field_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"^leaf.colr: OtherLeaf has no 'colr'; did you mean 'colour'\?"):
        changed(FULL, lambda t: t.leaf.colr)  # type: ignore[attr-defined]  # the point of it
    with pytest.raises(ConfigError, match=r"^leaves.2: it has no '2'; known: 0, 1"):
        changed(FULL, lambda t: t.leaves[2])
    with pytest.raises(ConfigError, match=r"^leaves.-3: it has no '-3'"):
        changed(FULL, lambda t: t.leaves[-5])
    with pytest.raises(ConfigError, match=r"^named.b: it has no 'b'; known: a"):
        changed(FULL, lambda t: t.named["b"])
    with pytest.raises(ConfigError, match=r"^height.real: it has no 'real'"):
        changed(FULL, lambda t: t.height.real)


def test_what_is_no_field() -> None:
    for computed in (lambda t: 3, lambda t: t):
        with pytest.raises(ConfigError, match=r"a change names a field, such as lambda r: r.epochs; it gave"):
            changed(FULL, computed)
    with pytest.raises(ConfigError, match=r"^best: a change names one field; it cannot depend on a value"):
        changed(FULL, lambda t: t.best or t.leaf)


def test_values_by_path() -> None:
    value = tree(leaves=[LeafConf(), LeafConf(size=7)])
    assert get(value, "leaves.1.size") == 7
    other = replaced(value, {"leaves.1.size": 8, "best": LeafConf(size=3), "height": 9.0})
    assert (get(other, "leaves.1.size"), get(other, "best.size"), other.height) == (8, 3, 9.0)
    assert (get(value, "leaves.1.size"), value.best, value.height) == (7, None, 2.0)
    with pytest.raises(ConfigError, match=r"^best.sise: Leaf has no 'sise'; did you mean 'size'\?"):
        replaced(other, {"best.sise": 1})


def test_they_are_of_the_package() -> None:
    assert (ssltyped.changed, ssltyped.part) == (changed, part)

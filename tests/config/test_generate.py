"""Configs: made from constructors, walked, changed by path."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path

import pytest
from trees import (
    Bare,
    BareConf,
    Colour,
    LazyConf,
    Leaf,
    LeafConf,
    OakConf,
    OtherLeafConf,
    Positional,
    SmallLeafConf,
    Stone,
    StoneConf,
    Tree,
    TreeConf,
    Untyped,
    errors,
    tree,
)

from ssltyped import config
from ssltyped.config import ConfigError, build, check, config_for, raised_by, walk
from ssltyped.config.component import Problem
from ssltyped.types import Component, Head


class Shrub(Component, ABC):
    @abstractmethod
    def grow(self) -> None: ...


def test_a_config_is_a_dataclass_with_the_constructors_defaults() -> None:
    made = TreeConf(height=1, leaf=LeafConf())
    anything: object = made
    assert dataclasses.is_dataclass(anything)
    assert [config.is_config(value) for value in (made, made.leaf, TreeConf, build(LeafConf()))] == [1, 1, 0, 0]
    assert (made.pair, made.colour, made.folder) == ((1, 2.0), Colour.RED, Path("x"))


def test_the_same_class_has_one_config() -> None:
    assert config_for(Leaf) is LeafConf
    assert config.part_of(LeafConf()).target is Leaf
    assert config.parts()["trees.Leaf"].config is LeafConf


def test_two_configs_share_no_list() -> None:
    one, other = TreeConf(height=1, leaf=LeafConf()), TreeConf(height=1, leaf=LeafConf())
    one.sizes.append(7)
    assert other.sizes == [1]
    assert build(other).sizes == [1]


class Pot(Component):
    """Has a leaf and a stone by default."""

    def __init__(self, *, leaf: Leaf = LeafConf(size=3), stone: Stone = StoneConf(weight=2.0)) -> None:
        self.leaf, self.stone = leaf, stone


class Vase(Pot):
    """Gives one of them itself."""

    def __init__(self, *, weight: float = 1.0, leaf: Leaf = LeafConf(size=4)) -> None:
        super().__init__(leaf=leaf, stone=Stone(weight=weight))


PotConf, VaseConf = config_for(Pot), config_for(Vase)


def test_a_default_that_is_a_config_is_built_in_a_part_that_is_made_by_hand() -> None:
    pot, own = Pot(), Leaf(size=5)
    assert isinstance(pot.leaf, Leaf)
    assert (pot.leaf.size, pot.stone.weight) == (3, 2.0)
    assert Pot(leaf=own).leaf is own
    assert (Vase().leaf.size, Vase().stone.weight, Vase(leaf=own).leaf) == (4, 1.0, own)
    built = build(config.replaced(PotConf(), {"leaf.size": 6}))
    assert (built.leaf.size, built.stone.weight) == (6, 2.0)
    assert PotConf().leaf == LeafConf(size=3), "the default is as it was"
    assert build(VaseConf()).leaf.size == 4


def test_an_unknown_field_names_the_one_that_was_meant() -> None:
    with pytest.raises(TypeError, match=r"Tree has no field 'heigth'; did you mean 'height'\?"):
        TreeConf(heigth=2.0, leaf=LeafConf())  # type: ignore[call-arg]  # the point of the test


def test_a_function_can_be_a_part() -> None:
    assert config.part_of(OakConf()).kind is Tree
    assert build(OakConf(height=4.0)).height == 4.0
    assert check(TreeConf(height=1, leaf=SmallLeafConf())).leaf == SmallLeafConf()
    assert "got Tree, which is no Leaf" in errors(tree(leaf=OakConf()))["leaf"]


def test_a_module_without_a_constructor_of_its_own_has_no_parameters() -> None:
    assert isinstance(build(BareConf()), Bare)
    with pytest.raises(TypeError, match="Bare has no field 'width'"):
        BareConf(width=3)  # type: ignore[call-arg]  # the point of the test


def test_a_component_is_at_the_top_of_a_module() -> None:
    class Hidden(Component):
        pass

    with pytest.raises(TypeError, match="Hidden: a component is at the top of a module"):
        config_for(Hidden)


def test_parameters_are_keyword_only_and_typed() -> None:
    with pytest.raises(TypeError, match="keyword-only and typed; not so: size, others"):
        config_for(Positional)
    with pytest.raises(TypeError, match="keyword-only and typed; not so: size"):
        config_for(Untyped)


def test_a_type_that_is_not_there_at_run_time_is_named() -> None:
    with pytest.raises(ConfigError, match=r"import it outside TYPE_CHECKING.*Decimal"):
        check(LazyConf(price=3))  # type: ignore[arg-type]  # any value


def test_walk_visits_every_part_outer_ones_first() -> None:
    value = tree(leaves=[LeafConf(), OtherLeafConf()], named={"a": LeafConf()})
    assert [path for path, _ in walk(value)] == ["", "leaf", "leaves.0", "leaves.1", "named.a"]


def test_what_a_part_raises_gets_its_path() -> None:
    with pytest.raises(ConfigError) as caught, raised_by("loss"), raised_by("losses.first"):
        raise ConfigError([Problem("teacher.weights", "is missing"), Problem("", "needs two views")])
    assert str(caught.value) == "loss.losses.first.teacher.weights: is missing\nloss.losses.first: needs two views"


def test_a_tree_and_back() -> None:
    value = tree(leaves=[OtherLeafConf()], named={"a": LeafConf()})
    assert config.from_tree(config.to_tree(value)) == value


def test_a_config_of_an_abstract_class_is_refused() -> None:
    with pytest.raises(TypeError, match=r"test_generate\.Shrub is abstract .*: give it grow, or make a config of its"):
        config_for(Shrub)
    with pytest.raises(TypeError, match=r"ssltyped\.types.*\.Head is abstract .*: give it .*out_dim"):
        config_for(Head)

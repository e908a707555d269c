"""Configs: made from constructors, checked as a whole, built, and the same again after YAML."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import pytest
from annotated_types import Ge, Gt, Le, Len
from torch import Tensor

from ssltyped import config
from ssltyped.config import ConfigError, build, check, config_for, from_yaml, get, replaced, to_yaml, walk
from ssltyped.types import Component, Head, Problem

if TYPE_CHECKING:
    from decimal import Decimal


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(Component):
    def __init__(self, *, size: Annotated[int, Ge(1), Le(9)] = 1) -> None:
        self.size = size


class OtherLeaf(Leaf):
    def __init__(self, *, colour: Colour = Colour.RED) -> None:
        super().__init__(size=2)
        self.colour = colour


class Strict(Component):
    """Refuses what its types allow."""

    def __init__(self, *, low: float, high: float) -> None:
        if low > high:
            raise ValueError(f"low {low} is above high {high}")
        self.low, self.high = low, high


class Stone(Component):
    """Nothing that a tree wants."""

    def __init__(self, *, weight: float) -> None:
        self.weight = weight


class Tree(Component):
    def __init__(
        self,
        *,
        height: Annotated[float, Gt(0)],
        leaf: Leaf,
        leaves: list[Leaf] = [],  # noqa: B006  # never changed; a config shows it
        best: Optional[Leaf] = None,
        named: dict[str, Leaf] = {},  # noqa: B006
        pair: tuple[int, float] = (1, 2.0),
        sizes: Annotated[list[Annotated[int, Gt(0)]], Len(1)] = [1],  # noqa: B006
        colour: Colour = Colour.RED,
        kind: Literal["oak", "ash"] = "oak",
        folder: Path = Path("x"),
        either: int | str = 3,
        grows: bool = True,
        strict: Optional[Strict] = None,
    ) -> None:
        self.height, self.leaf, self.leaves, self.best, self.named = height, leaf, leaves, best, named
        self.pair, self.sizes, self.colour, self.kind, self.folder = pair, sizes, colour, kind, folder
        self.either, self.grows, self.strict = either, grows, strict


class Positional(Component):
    def __init__(self, size: int = 1, *others: int) -> None: ...


class Untyped(Component):
    def __init__(self, *, size=1) -> None: ...  # type: ignore[no-untyped-def]  # the point of it


class Lazy(Component):
    def __init__(self, *, price: Decimal) -> None: ...


class Bare(Head):
    """Has no constructor but that of `nn.Module`."""

    in_dim = 3

    @property
    def out_dim(self) -> int:
        return 3

    def forward(self, features: Tensor) -> Tensor:
        return features


def oak(*, height: float = 3.0) -> Tree:
    return Tree(height=height, leaf=Leaf())


def small_leaf() -> Leaf:
    return Leaf(size=1)


LeafConf = config_for(Leaf)
LazyConf = config_for(Lazy)
BareConf = config_for(Bare)
OakConf = config_for(oak)
SmallLeafConf = config_for(small_leaf)
OtherLeafConf = config_for(OtherLeaf)
StrictConf = config_for(Strict)
StoneConf = config_for(Stone)
TreeConf = config_for(Tree)


def tree(**fields: object) -> Tree:
    """A config with these fields, of whatever types: what mypy rejects must be caught at run time too."""
    return TreeConf(**{"height": 2.0, "leaf": LeafConf(), **fields})  # type: ignore[arg-type]  # the point of the test


def errors(value: object) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        check(value)
    return {problem.path: problem.message for problem in caught.value.problems}


# --- what config_for makes ----------------------------------------------------------------------------------------


def test_a_config_is_a_dataclass_with_the_constructors_defaults() -> None:
    made = TreeConf(height=1, leaf=LeafConf())
    anything: object = made
    assert dataclasses.is_dataclass(anything)
    assert [config.is_config(value) for value in (made, made.leaf, TreeConf, build(LeafConf()))] == [1, 1, 0, 0]
    assert (made.pair, made.colour, made.folder) == ((1, 2.0), Colour.RED, Path("x"))


def test_the_same_class_has_one_config() -> None:
    assert config_for(Leaf) is LeafConf
    assert config.part_of(LeafConf()).target is Leaf
    assert config.parts()[f"{__name__}.Leaf"].config is LeafConf


def test_two_configs_share_no_list() -> None:
    one, other = TreeConf(height=1, leaf=LeafConf()), TreeConf(height=1, leaf=LeafConf())
    one.sizes.append(7)
    assert other.sizes == [1]
    assert build(other).sizes == [1]


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
        BareConf(width=3)


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


# --- check --------------------------------------------------------------------------------------------------------


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
        ({"height": True}, "height", "got True: input should be a valid number"),
        ({"height": None}, "height", "got None"),
        ({"height": float("nan")}, "height", "got nan: input should be a finite number"),
        ({"height": float("inf")}, "height", "got inf: input should be a finite number"),
        ({"grows": 1}, "grows", "got 1: input should be a valid boolean"),
        ({"grows": "yes"}, "grows", "got 'yes'"),
        ({"leaf": LeafConf(size=0)}, "leaf.size", "got 0: input should be greater than or equal to 1"),
        ({"leaf": LeafConf(size=10)}, "leaf.size", "got 10: input should be less than or equal to 9"),
        ({"leaf": None}, "leaf", "got None: needs a Leaf (there is Leaf, OtherLeaf"),
        ({"leaf": "Leaf"}, "leaf", "got 'Leaf': needs a Leaf"),
        ({"leaf": StoneConf(weight=1)}, "leaf", "got Stone, which is no Leaf (there is Leaf, OtherLeaf"),
        ({"leaf": Leaf()}, "leaf", "got a built Leaf: give its config, LeafConf(...)"),
        ({"best": StoneConf(weight=1)}, "best", "got Stone, which is no Leaf"),
        ({"leaves": [LeafConf(), StoneConf(weight=1)]}, "leaves.1", "got Stone, which is no Leaf"),
        ({"leaves": [LeafConf(size=0)]}, "leaves.0.size", "got 0"),
        ({"leaves": LeafConf()}, "leaves", "input should be a valid list"),
        ({"named": {"a": StoneConf(weight=1)}}, "named.a", "got Stone, which is no Leaf"),
        ({"named": {"a": LeafConf(size=0)}}, "named.a.size", "got 0"),
        ({"pair": (1, 2.0, 3)}, "pair", "got (1, 2.0, 3)"),
        ({"pair": (1, "x")}, "pair.1", "got 'x'"),
        ({"pair": (1.5, 2)}, "pair.0", "got 1.5: input should be a valid integer"),
        ({"sizes": []}, "sizes", "got []"),
        ({"sizes": [1, 0]}, "sizes.1", "got 0: input should be greater than 0"),
        ({"colour": "bleu"}, "colour", "got 'bleu': input should be 'red' or 'blue'; did you mean 'blue'?"),
        ({"colour": 3}, "colour", "got 3: input should be 'red' or 'blue'"),
        ({"kind": "oka"}, "kind", "did you mean 'oak'?"),
        ({"folder": None}, "folder", "got None: input should be a path"),
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
    wrong = tree(height=-1, leaf=LeafConf(size=0), leaves=[LeafConf(), LeafConf(size=99)], colour="green")
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


# --- build --------------------------------------------------------------------------------------------------------


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


# --- paths --------------------------------------------------------------------------------------------------------


def test_walk_visits_every_part_outer_ones_first() -> None:
    value = tree(leaves=[LeafConf(), OtherLeafConf()], named={"a": LeafConf()})
    assert [path for path, _ in walk(value)] == ["", "leaf", "leaves.0", "leaves.1", "named.a"]


def test_values_by_path() -> None:
    value = tree(leaves=[LeafConf(), LeafConf(size=7)])
    assert get(value, "leaves.1.size") == 7
    changed = replaced(value, {"leaves.1.size": 8, "best": LeafConf(size=3), "height": 9.0})
    assert (get(changed, "leaves.1.size"), get(changed, "best.size"), changed.height) == (8, 3, 9.0)
    assert (get(value, "leaves.1.size"), value.best, value.height) == (7, None, 2.0)


def test_a_tree_and_back() -> None:
    value = tree(leaves=[OtherLeafConf()], named={"a": LeafConf()})
    assert config.from_tree(config.to_tree(value)) == value


# --- YAML ---------------------------------------------------------------------------------------------------------


def test_yaml_and_back() -> None:
    value = tree(
        leaves=[OtherLeafConf(colour=Colour.BLUE)],
        named={"a": LeafConf(size=2)},
        folder=Path("a b/${c}"),
        either="${not.a.reference}",
        colour="blue",
    )
    assert from_yaml(to_yaml(value)) == check(value)


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
        (f"_target_: {__name__}.Leaf\nsize: 3\nsise: 4", "sise: Leaf has no such field; did you mean 'size'?"),
        (f"_target_: {__name__}.Leaf\nsize: x", "size: got 'x': input should be a valid integer"),
        (f"_target_: {__name__}.Leaf\nsize: ${{no.such}}", "size: Interpolation key 'no.such' not found"),
        (
            f"_target_: {__name__}.Tree\nheight: 1\nleaf:\n  _target_: os.system",
            "leaf: got 'os.system', which is no registered component (there is Leaf",
        ),
    ],
)
def test_what_is_wrong_in_a_yaml_file(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_yaml(text)
    assert message in str(caught.value)

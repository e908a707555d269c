"""Whatever is written after a recipe: it is valid, or a clean error and exit code 2; never a traceback."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from enum import Enum
from typing import NamedTuple, get_origin

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipes_shipped import TRAININGS

from ssltyped import config
from ssltyped.cli.recipe import load_recipe
from ssltyped.config import ConfigError, catalog, show
from ssltyped.config.grammar import expand
from ssltyped.config.kinds import options
from ssltyped.run import main

EXAMPLES, PLANNED, EXPANDED = 2000, 100, 300
RECIPES = {name: load_recipe(name) for name in TRAININGS}
PARTS = [show.component(name) for name in catalog.components()]

torch.set_num_threads(1)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments: str) -> Ended:
    """The command line in this process. What it raises is what the test is about, and not caught."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as leaving:  # argparse's way to say that an option is wrong
            code = leaving.code if isinstance(leaving.code, int) else 1
    return Ended(code, out.getvalue(), err.getvalue())


@functools.cache
def real_paths(recipe: str) -> tuple[str, ...]:
    """Every field of a recipe, and some items of its lists."""
    parts = config.walk(RECIPES[recipe])
    found = [config.join(path, name) for path, part in parts for name in config.part_of(part).parameters]
    items = [f"{path}.0" for path in found if isinstance(value := config.get(RECIPES[recipe], path), list) and value]
    return (*found, *items, *(f"heads.{name}" for name in RECIPES[recipe].heads))


def words(text: str, *others: str) -> st.SearchStrategy[str]:
    return st.sampled_from([*text.split(), *others])


NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.integers(),
    st.floats(),
    st.floats(0, 1),
    st.sampled_from([2**31, 2**63, 10**30, -(10**30), float("nan"), float("inf"), float("-inf"), 1e-320, -0.0]),
).map(str)
ODD_NUMBERS = words(
    """1e999 -1e999 0x10 1_000 .5 5. +3 -0 ٣ ² 1e 1e5 1,5 1/2 NaN INF -.inf 1e-5 0o7 1j 007 2024_01""",
    "9" * 5000,
    "1e" + "9" * 50,
)
WORDS = words("true false null None none True NULL yes off ??? ~ linear sqrt bf16 cuda small TRAIN never")
NAMES = words(
    """simclrloss AdamWW Adam resnet50 os:system os.system builtins:eval builtins.eval :X X: a:b:c . .. : ..:X
    torch.nn:Linear ssltyped.types:Loss ssltyped.config:check ssltyped:nothing ssltyped.no:X ssltyped.run:main
    numpy:ndarray no_such_package:X ssltyped.losses.simclr: ssltyped.losses.simclr:_NTXent é:X 1:2 a-b:C""",
    "a b:C",
    *catalog.components(),
    *(f"{module}:{name}" for name, module in catalog.components().items()),
    *(f"{module}.{name}" for name, module in catalog.components().items()),
)
REFERENCES = words(
    """${seed} ${loss.temperature} ${loss} ${heads} ${} ${ ${.seed} ${..seed} ${oc.env:HOME} ${oc.env:NO_SUCH} ${x:y}
    ${epochs}${seed} a${seed}b ${no.such} \\${seed} ${${seed}} ${oc.create:{a:1}} ${oc.decode:'['} ${name}
    ${trunk.depth} ${heads.projector.dims} ${heads[0].dims} ${heads.7} ${data.train} ${_target_} ${loss._target_}
    ${oc.select:seed} ${oc.dict.keys:loss}"""
)
SWEEPS = words(
    """1,2 range(3) range(0,3) range(0) range(1,2,0) choice(1,2) choice() glob(*) interval(0,1) shuffle(1,2)
    shuffle([1,2]) sort(3,1) sort([3,1]) int(3.5) int(x) float(x) str(1) str([1,2]) bool(2) json_str([1])
    extend_list(1) tag(a,1) no(1)"""
)
QUOTED = words("""'a' "a" ' " '' "" 'a\\'b' "a"b \\ \\\\ a\\,b # a#b""", "a b", " ", "\t", "a\nb")
TARGETS = words(
    """{_target_:os.system} {_target_:ssltyped.losses.simclr.SimCLRLoss} {_target_:3} [{_target_:os.system}]
    {_target_:null} {a:{_target_:os.system}} {_target_:[1]} {_args_:[1]} {_partial_:true} {temperature:0.2}"""
)
LONG = words("", "a" * 5000, "[" * 300 + "]" * 300, "[" * 1500 + "]" * 1500, "[" * 3000, "1," * 500 + "1", "${" * 50)
PLAIN: st.SearchStrategy[str] = st.one_of(NUMBERS, WORDS, NAMES, ODD_NUMBERS, REFERENCES, QUOTED, st.text(max_size=6))
NESTED: st.SearchStrategy[str] = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: "[" + ",".join(items) + "]"),
        st.lists(st.tuples(PLAIN, inner), max_size=3).map(lambda pairs: "{" + ",".join(map(":".join, pairs)) + "}"),
    ),
    max_leaves=8,
)
VALUES: st.SearchStrategy[str] = st.one_of(
    NUMBERS, NUMBERS, WORDS, NAMES, NESTED, REFERENCES, SWEEPS, QUOTED, TARGETS, ODD_NUMBERS, st.text(max_size=20), LONG
)
STEPS = words(
    """0 1 -1 7 00 ² ٣ 0.0 _target_ _convert_ _partial_ __class__ temperature dims x . .. [0] @p /y é 'a' $x ${seed}""",
    "",
    " ",
    "a" * 5000,
)


@st.composite
def paths(draw: st.DrawFn, recipe: str) -> str:
    """A field's path, and one time in three something that is nearly one."""
    path = draw(st.sampled_from(real_paths(recipe)))
    if draw(st.integers(0, 2)):
        return path
    position = draw(st.integers(0, len(path)))
    changed = [
        path[:position] + path[position + 1 :],
        path[:position] + draw(st.text(max_size=2)) + path[position:],
        path[:position],
        config.join(path, draw(STEPS)),
        draw(STEPS),
        path.upper(),
        path.replace(".", "/"),
    ]
    return draw(st.sampled_from(changed))


def fitting(hint: object) -> st.SearchStrategy[str]:
    """Values that a field of this type may well have."""
    kinds = [option for option in options(hint) if isinstance(option, type) and option is not object]
    names = [part.target.__name__ for part in PARTS if any(issubclass(part.kind, kind) for kind in kinds)]
    members = [str(member.value) for kind in kinds if issubclass(kind, Enum) for member in kind]
    numbers = ["1", "2", "3"] + ["0.5", "1e-3"] * (float in kinds)
    lists = ["[1]", "[2,3]", "[0.1,0.9]", "[]", "[0.2,0.3,0.4]"] if any(get_origin(o) for o in options(hint)) else []
    return st.sampled_from([*names, *members, *lists, *numbers, "true", "null"])


@st.composite
def fitting_overrides(draw: st.DrawFn, recipe: str) -> str:
    path = draw(st.sampled_from(real_paths(recipe)))
    way, _, last = path.rpartition(".")
    owner = config.get(RECIPES[recipe], way) if way else RECIPES[recipe]
    hint = config.part_of(owner).hints[last] if config.is_config(owner) else object
    return f"{path}={draw(fitting(hint))}"


@st.composite
def odd_overrides(draw: st.DrawFn, recipe: str) -> str:
    sign = draw(st.sampled_from(["", "", "", "", "", "", "+", "++", "~", "+~", "-", "--"]))
    between = draw(st.sampled_from(["=", "=", "=", "=", "=", "=", "=", "", "==", " = ", ":", "=="]))
    return sign + draw(paths(recipe)) + between + draw(VALUES)


@st.composite
def commands(draw: st.DrawFn, odd: st.SearchStrategy[bool] = st.booleans()) -> list[str]:
    """A recipe and what is written after it: nothing but values that fit, or anything."""
    recipe = draw(st.sampled_from(sorted(RECIPES)))
    some = odd_overrides(recipe) if draw(odd) else fitting_overrides(recipe)
    return [recipe, draw(some), *draw(st.lists(some, max_size=draw(st.sampled_from([0, 0, 2]))))]


STEADY = settings(
    deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), max_examples=EXAMPLES
)


def assert_clean(ended: Ended) -> None:
    assert ended.code in (0, 2)
    assert "Traceback" not in ended.err
    if ended.code == 2:
        assert ended.out == ""
        assert re.match("error: .+ is not started:\n  .+|usage: ", ended.err)
    else:
        assert ended.out != ""
        assert ended.err == ""


@settings(STEADY)
@given(commands())
def test_an_override_is_valid_or_a_clean_error(command: list[str]) -> None:
    assert_clean(run(*command, "--print"))


@settings(STEADY, max_examples=PLANNED)
@given(commands(odd=st.integers(0, 5).map(lambda number: number == 0)))
def test_what_is_printed_has_a_plan_or_a_clean_error(command: list[str]) -> None:
    assert_clean(run(*command, "--plan"))


@settings(STEADY, max_examples=EXPANDED)
@given(commands())
def test_a_sweep_expands_to_overrides_or_a_clean_error(command: list[str]) -> None:
    combinations: list[list[str]] = []
    with contextlib.suppress(ConfigError):
        combinations = expand(command[1:])
    assert all(len(combination) == len(command) - 1 for combination in combinations)

"""Types, nearest names and failures in words."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal, Optional, Union

import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt

from ssltyped.config.hints import brief, columns, describe, failure, nearest, shown
from ssltyped.types import Head


class Scale(Enum):
    LINEAR = "linear"
    SQRT = "sqrt"


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, "int"),
        (Path, "Path"),
        (Head, "Head"),
        (Optional[int], "int | null"),
        (int | str, "int | str"),
        (Union[int, str, None], "int | str | null"),
        (Annotated[float, Gt(0)], "float > 0"),
        (Annotated[float, Ge(0), Lt(1)], "float >= 0 < 1"),
        (Annotated[float, Interval(ge=0, le=1)], "float >= 0 <= 1"),
        (Optional[Annotated[int, Gt(0), Le(9)]], "int > 0 <= 9 | null"),
        (list[Head], "list of Head"),
        (Annotated[list[Annotated[int, Gt(0)]], Len(1)], "list of int > 0 len >= 1"),
        (tuple[float, float], "tuple of float, float"),
        (tuple[float, ...], "tuple of float, ..."),
        (dict[str, Head], "dict of str, Head"),
        (Scale, "linear | sqrt"),
        (Optional[Scale], "linear | sqrt | null"),
        (Literal[18, 50], "18 | 50"),
        (Annotated[int, "a remark"], "int"),
    ],
)
def test_a_type_in_words(hint: object, text: str) -> None:
    assert describe(hint) == text


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("temprature", ["temperature", "weight"], "; did you mean 'temperature'?"),
        ("zzz", ["temperature", "weight"], "; known: temperature, weight"),
        ("zzz", [], ""),
        ("adamw", ["Adam", "AdamW"], "; did you mean 'AdamW'?"),
        ("SGDM", ["sgd", "adam"], "; did you mean 'sgd'?"),
        ("barlow", ["BarlowTwinsLoss", "MoCoLoss"], "; did you mean 'BarlowTwinsLoss'?"),
        ("", ["weight"], "; known: weight"),
    ],
)
def test_the_nearest_name(name: str, known: list[str], text: str) -> None:
    assert nearest(name, known) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), ("a", "'a'"), ("3", "'3'"), (3, "3"), (Scale.SQRT, "sqrt"),
        ([1, None, "a"], "[1, null, a]"), ({"a": False}, "{a: false}"), (Path("x"), "x"),
        ("x" * 200, "'" + "x" * 116 + "..."),
    ],
)  # fmt: skip
def test_a_value_in_an_error(value: object, text: str) -> None:
    assert shown(value) == text


def test_cells_stand_below_each_other() -> None:
    rows = [["", "a", "b"], ["long", "1", ""], ["x", "22", "3"]]
    assert list(columns(rows)) == ["      a   b", "long  1", "x     22  3"]


def test_a_long_text_is_cut() -> None:
    assert brief("x" * 120) == "x" * 120
    assert brief("x" * 121) == "x" * 117 + "..."
    assert brief("abcdef", 5) == "ab..."
    assert brief("a\n  b") == "a b"


def failing(path: Path, text: str) -> str:
    path.write_text(text)
    try:
        exec(compile(text, str(path), "exec"), {"__name__": "mine"})
    except Exception as error:
        return failure(error)
    raise AssertionError("did not fail")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = undefined\n", "NameError: name 'undefined' is not defined ({}, line 2)"),
        ("x = (\n", "SyntaxError: '(' was never closed ({}, line 1)"),
        ("raise ValueError('a\\nb')\n", "ValueError: a b ({}, line 1)"),
        (
            "import no_such_module\n",
            "ModuleNotFoundError: No module named 'no_such_module' ({}, line 1)",
        ),
        (
            "from ssltyped.config import config_for\ndef f(x: int) -> int: ...\n\nconfig_for(f)\n",
            "TypeError: mine.f: parameters of a component are keyword-only and typed; not so: x ({}, line 4)",
        ),
    ],
)
def test_a_failed_import_on_one_line_with_the_users_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.py"
    assert failing(file, text) == said.format(file)

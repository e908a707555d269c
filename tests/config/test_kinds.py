"""What a declared type takes."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional, Union

import pytest
from annotated_types import Gt

from ssltyped.config.kinds import (
    inner,
    names_of,
    options,
    part_kinds,
    takes_dict,
    takes_list,
    takes_none,
    takes_only_text,
    takes_text,
    takes_word,
)
from ssltyped.types import Head, Loss, Optimizer


class Scale(Enum):
    NONE = "none"
    SQRT = "sqrt"


def test_the_members_of_a_union() -> None:
    assert options(Optional[Annotated[int, Gt(0)]]) == [int, type(None)]
    assert options(Union[int, Optional[str]]) == [int, str, type(None)]
    assert options(list[int] | None) == [list[int], type(None)]


def test_the_items() -> None:
    assert inner(Optional[list[Head]]) is Head
    assert inner(dict[str, Loss]) is Loss
    assert [inner(tuple[int, str], index) for index in (0, 1, 2)] == [int, str, str]
    assert inner(tuple[float, ...], 7) is float
    assert inner(int) is object


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        (Optional[int], "none"),
        (Any, "none"),
        (int, ""),
        (str, "text only_text"),
        (Optional[Path], "none text only_text"),
        (Scale, "text"),
        (Union[int, str], "text"),
        (Optional[list[Head]], "none list"),
        (tuple[float, float], "list"),
        (dict[str, Head], "dict"),
        (Optional[Head], "none"),
    ],
)
def test_what_it_takes(hint: object, told: str) -> None:
    asked = {
        "none": takes_none,
        "text": takes_text,
        "only_text": takes_only_text,
        "list": takes_list,
        "dict": takes_dict,
    }
    assert " ".join(name for name, question in asked.items() if question(hint)) == told


def test_the_words_of_an_enum() -> None:
    assert takes_word(Optional[Scale], "none")
    assert takes_word(Scale, "NONE")
    assert not takes_word(Scale, "None")
    assert not takes_word(str, "none")


def test_the_parts() -> None:
    assert part_kinds(Optional[Head]) == [Head]
    assert part_kinds(Union[int, Path, None]) == []
    assert part_kinds(object) == []
    assert {"SGD", "AdamW", "LARS"} <= set(names_of([Optimizer]))
    assert "SimCLRLoss" not in names_of([Optimizer])

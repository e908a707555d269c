"""The mypy plugin on a module of a user's own, by its public name; tests/typing has what it says of the library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from checkers import mypy_lines

from ssltyped import typing_plugin

MODULE = '''
from typing import Annotated, Literal, Optional, Sequence

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen

from ssltyped import config_for, launch, override
from ssltyped.types import Component

MOST = 4
Positive = Annotated[int, Gt(0)]


class Base(Component):
    def __init__(
        self,
        *,
        size: Positive = 1,
        share: "Annotated[float, Ge(0), Lt(1)]" = 0.5,
        rows: Annotated[list[Positive], MinLen(1), MaxLen(MOST)] = [1],
        pair: tuple[float, Annotated[float, Le(1)]] = (0.0, 1.0),
        many: tuple[Annotated[int, Ge(2)], ...] = (),
        word: Annotated[str, Len(1, 3)] = "abc",
        deep: Optional[Sequence[list[Annotated[int, Ge(-1)]]]] = None,
        open: Annotated[int, Gt(2 * MOST)] = 9,
        on: bool = False,
        kind: Literal["a", "b"] = "a",
    ) -> None:
        self.size, self.on = size, on


class Heir(Base):
    """Has its parent's constructor."""


class Whole(Component):
    def __init__(self, *, heir: Heir, anything: Component, perhaps: Optional[Base] = None) -> None:
        self.heir = heir


def factory(*, size: int) -> Base:
    return Base(size=-size)


BaseConf = config_for(Base)
HeirConf = config_for(Heir)
WholeConf = config_for(Whole)
FactoryConf = config_for(factory)

whole = WholeConf(heir=HeirConf(), anything=BaseConf())
right = BaseConf(size=1, share=0, rows=[1, 2, 3, 4], pair=(5.0, 1.0), many=(2,), deep=[[-1], []], open=0, word="a")
names = ["heir.sise=1"]
fine = override(whole, [*names, "heir.size=2", "anything.x=1", "heir.on=true", "heir.rows=[1,2]", "+heir.rows=3"])
also = override(whole, ["perhaps=null", "perhaps=Heir", "heir.kind=b", "heir.share=${heir.pair.1}", "heir.many.0=1"])

'''

MISTAKES = {
    "BaseConf(size=0)": "size: 0 is not > 0",
    "HeirConf(size=-1)": "size: -1 is not > 0",
    "BaseConf(share=1.0)": "share: 1.0 is not < 1",
    "BaseConf(rows=[])": "rows: has 0 items and needs >= 1",
    "BaseConf(rows=[1, 2, 3, 4, 5])": "rows: has 5 items and takes <= 4",
    "BaseConf(rows=[1, 0])": "rows: item 1: 0 is not > 0",
    "BaseConf(pair=(2.0, 2.0))": "pair: item 1: 2.0 is not <= 1",
    "BaseConf(many=(2, 2, 1))": "many: item 2: 1 is not >= 2",
    'BaseConf(word="")': "word: has 0 items and needs >= 1",
    'BaseConf(word="abcd")': "word: has 4 items and takes <= 3",
    "BaseConf(deep=[[0], [-2]])": "deep: item 1: item 0: -2 is not >= -1",
    'override(whole, ["hier.size=1"])': "hier.size: Whole has no such field; did you mean 'heir'?",
    'override(whole, ["heir.sise=1"])': "heir.sise: Heir has no such field; did you mean 'size'?",
    'override(whole, ["heir.size=0"])': "heir.size: 0 is not > 0",
    'override(whole, ["heir.size=1.5"])': "heir.size: 1.5 is not int",
    'override(whole, ["heir.size=inf"])': "heir.size: inf is not int",
    'override(whole, ["heir.on=maybe"])': "heir.on: maybe is not bool",
    'override(whole, ["perhaps.sise=1"])': "perhaps.sise: Base has no such field; did you mean 'size'?",
    'override(whole, overrides=("~heir.qqq",))': "heir.qqq: Heir has no such field",
}


def test_what_a_config_would_refuse_is_red_at_its_line(tmp_path: Path) -> None:
    file, first = tmp_path / "own.py", MODULE.count("\n") + 1
    file.write_text(MODULE + "\n".join(MISTAKES))
    lines = [f"own.py:{n}: error: {message}  [config-value]" for n, message in enumerate(MISTAKES.values(), first)]
    assert mypy_lines(file) == lines


def test_mypy_finds_it_by_its_public_name(tmp_path: Path) -> None:
    """In the settings of a project of one's own, where a name that is not there is an error."""
    (tmp_path / "own.py").write_text("count: int = 1\n")
    for name, code in (("ssltyped.typing_plugin", 0), ("ssltyped.no_plugin", 2)):
        (tmp_path / "mypy.ini").write_text(f"[mypy]\nplugins = {name}\n")
        done = subprocess.run([sys.executable, "-m", "mypy", "own.py"], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == code, done.stdout


def test_it_is_what_mypy_asks_for() -> None:
    assert typing_plugin.plugin("1.15") is typing_plugin.ConfigPlugin

"""Types in words: how a declared type reads in an error, in `--help` and in `--list`."""

import difflib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

MOST_KNOWN = 40
"""Names that an error lists when none is near."""


def describe(hint: object) -> str:
    """A type as a user reads it: 'float > 0', 'list of Head', 'linear | sqrt', 'int | null'."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [limit for meta in args[1:] for limit in (meta if hasattr(meta, "__iter__") else [meta])]
        return " ".join(filter(None, [describe(args[0]), *(_limit(limit) for limit in limits)]))
    if origin in (Union, UnionType):
        return " | ".join("null" if arg is NoneType else describe(arg) for arg in args)
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (list, tuple, set, dict):
        return f"{origin.__name__} of {', '.join('...' if arg is Ellipsis else describe(arg) for arg in args)}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(str(member.value) for member in hint)
    return str(getattr(hint, "__name__", hint))


def _limit(meta: object) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "len >=", "max_length": "len <="}
    values = {sign: getattr(meta, key, None) for key, sign in signs.items()}
    return " ".join(f"{sign} {value}" for sign, value in values.items() if value is not None)


def brief(text: str, most: int = 120) -> str:
    """A text that may be very long, on one line and cut for an error."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def plain(value: object) -> str:
    """A value as it is written on the command line; a part by its class."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(plain, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) + "}"
    target = getattr(value, "_target_", None)
    return target.rpartition(".")[2] if isinstance(target, str) else str(value)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of as many cells each as lines, whose cells stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def shown(value: object) -> str:
    """A value in an error: as on the command line, but that a text can be told from a number; one line, not long."""
    return brief(repr(value) if isinstance(value, str) else plain(value))


def nearest(name: str, known: Sequence[str]) -> str:
    """'; did you mean x?', whatever its capitals, or, with nothing near, '; known: ...'."""
    folded = {one.casefold(): one for one in reversed(known)}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if near := near or [one for one in folded if len(name) > 1 and one.startswith(name.casefold())]:
        return f"; did you mean {folded[near[0]]!r}?"
    more = ", ..." if len(known) > MOST_KNOWN else ""
    return f"; known: {', '.join(known[:MOST_KNOWN])}{more}" if known else ""


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many there are if they are more."""
    return ", ".join(names[:most]) + f", ... ({len(names)})" * (len(names) > most)


def misfits(needed: Mapping[str, Sequence[int]], given: Mapping[str, Sequence[int]]) -> list[str]:
    """What is wrong with tensors that are given by name, with these shapes, for those that are needed."""
    wrong = [f"{name} is missing{nearest(name, list(given))}" for name in needed if name not in given]
    wrong += [f"{name} has no place{nearest(name, list(needed))}" for name in given if name not in needed]
    for name, shape in needed.items():
        if name in given and tuple(given[name]) != tuple(shape):
            wrong.append(f"{name} has the shape {tuple(given[name])}, and {tuple(shape)} is needed")
    return wrong


def failure(error: BaseException) -> str:
    """An exception of a user's module on one line, with the file and line of the user's code."""
    ours = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "importlib" not in f.filename and not f.filename.startswith((ours, "<frozen"))]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    told = "sys.exit was called" if isinstance(error, SystemExit) else brief(str(error), 300)
    return f"{type(error).__name__}: {told}{place}"

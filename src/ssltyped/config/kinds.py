"""What a declared type takes: which values, which parts, and whether null."""

import importlib
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Union, get_args, get_origin

from ssltyped.config import catalog
from ssltyped.config.generate import parts

VALUES = (int, float, str, bool, bytes, Path, Enum, NoneType, list, tuple, dict, set)
"""Types of values; a field of another class takes a part."""


def options(hint: object) -> list[object]:
    """The members of a union, without what is only said about them."""
    if get_origin(hint) is Annotated:
        return options(get_args(hint)[0])
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        return [option for arg in get_args(hint) for option in options(arg)]
    return [hint]


def inner(hint: object, index: int = 0) -> object:
    """The declared type of an item of a list, tuple or dict."""
    for option in options(hint):
        args = [arg for arg in get_args(option) if arg is not Ellipsis]
        if get_origin(option) is dict:
            return args[1]
        if get_origin(option) in (list, tuple, set):
            return args[min(index, len(args) - 1)]
    return object


def takes_list(hint: object) -> bool:
    return any(get_origin(option) in (list, tuple) for option in options(hint))


def takes_dict(hint: object) -> bool:
    return any(get_origin(option) is dict for option in options(hint))


def takes_text(hint: object) -> bool:
    """Text, a path, or a word of an enum."""
    return any(isinstance(option, type) and issubclass(option, str | Path | Enum) for option in options(hint))


def takes_none(hint: object) -> bool:
    return any(option in (NoneType, object, Any) for option in options(hint))


def takes_word(hint: object, word: str) -> bool:
    """Whether the word is one of an enum's."""
    enums = [option for option in options(hint) if isinstance(option, type) and issubclass(option, Enum)]
    return any(word in (member.value, member.name) for enum in enums for member in enum)


def takes_only_text(hint: object) -> bool:
    kinds = [option for option in options(hint) if option is not NoneType]
    return all(isinstance(kind, type) and issubclass(kind, str | Path) for kind in kinds)


def part_kinds(hint: object) -> list[type]:
    """The kinds of parts that it takes."""
    return [o for o in options(hint) if isinstance(o, type) and o is not object and not issubclass(o, VALUES)]


def names_of(kinds: Sequence[type]) -> list[str]:
    """Names of components of a kind. Only an error asks for them: every module is imported to see what it has."""
    for module in set(catalog.components().values()):
        importlib.import_module(module)
    fitting = [part for part in parts().values() if any(issubclass(part.kind, kind) for kind in kinds)]
    return sorted({part.name for part in fitting})

"""Overrides and sweeps as they are written, in Hydra's grammar; a text that needs quotes is shown in them."""

import functools
import itertools
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from ssltyped.config.component import ConfigError, Problem
from ssltyped.config.hints import brief, shown

MAX_RUNS = 1000
"""Of one --multirun: more is a slip of the keyboard."""

_PATH = re.compile(r"(?:\+\+|\+|~)?([\w.]+)=")
_UNSAFE = re.compile(r'["$`!]|\\\\')
"""What a shell reads within double quotes."""


def parse(overrides: object, sweeps: bool = False) -> tuple[list[Override], list[Problem]]:
    """What is written, and what is wrong with the rest."""
    parsed: list[Override] = []
    problems: list[Problem] = []
    if isinstance(overrides, str | Mapping) or not isinstance(overrides, Iterable):
        return parsed, [Problem("overrides", f"got {shown(overrides)}: want a list of texts, such as ['epochs=1']")]
    for text in list[object](overrides):
        if not isinstance(text, str):
            problems.append(Problem("overrides", f"got {shown(text)}: want a text, such as 'epochs=1'"))
            continue
        try:
            item = _parser().parse_override(text)
        except (HydraException, ValueError, RecursionError) as error:  # numbers too long and lists too deep, too
            problems.append(_unreadable(text, error))
            continue
        if not item.key_or_group:
            problems.append(Problem(shown(text), "not an override (want path=value): it names no field"))
        elif item.is_sweep_override() and not sweeps:
            words = item.is_choice_sweep() and re.search(r"[^\W\d]", written_value(item))
            as_text = f", or quotes for a text: {quoted(text)}" if words else ""
            message = f"{brief(text)!r} is a sweep: add --multirun, or [..] for a list{as_text}"
            problems.append(Problem(item.key_or_group, message))
        elif item.package is not None:
            problems.append(Problem(brief(text), "there are no packages here: want path=value"))
        elif item.is_delete() and item.value_type is not None:
            problems.append(Problem(item.key_or_group, f"a removal takes no value: write ~{item.key_or_group}"))
        else:
            parsed.append(item)
    return parsed, problems


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def written_value(item: Override) -> str:
    """The value as it stands in the override."""
    return (item.input_line or "").partition("=")[2].strip()


def _unreadable(text: str, error: Exception) -> Problem:
    reason = brief(str(error).partition("\nSee ")[0])
    path = _PATH.match(text)
    if path is None or (shown := quoted(text)) is None:
        return Problem(brief(text) or "''", f"not an override (want path=value): {reason}")
    value = brief(text.partition("=")[2], 60)
    brackets = "close every bracket; " if value.startswith(("[", "{")) else ""
    remedy = f"{brackets}a text with such signs is quoted, for the shell and for itself: {shown}"
    return Problem(path[1], f"{value} cannot be read ({reason}); {remedy}")


def quoted(text: str) -> Optional[str]:
    """An override with its value in quotes, as a shell takes it; None if that is no override either."""
    left, _, value = text.partition("=")
    line = f"{left}={QuotedString(value, Quote.single).with_quotes()}"
    try:
        same = _parser().parse_override(line).value() == value
    except (HydraException, ValueError, RecursionError):
        return None
    if not same or len(line) > 200 or not line.isprintable():
        return None
    return shlex.quote(line) if _UNSAFE.search(line) else f'"{line}"'


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination that the sweeps among the overrides ask for; one list if there is none.

    Raises `ConfigError` for what is no override, and for more than `MAX_RUNS` combinations or none.
    """
    parsed, problems = parse(overrides, sweeps=True)
    choices: list[list[str]] = []
    for item in parsed:
        try:
            choices.append(_choices(item))
        except (HydraException, ValueError, TypeError) as error:
            problems.append(Problem(item.key_or_group, f"is no sweep: {brief(str(error))}"))
    if math.prod(map(len, choices)) > MAX_RUNS:
        problems.append(Problem("", f"more than {MAX_RUNS} runs in one sweep"))
    if problems:
        raise ConfigError(problems)
    return [list(combination) for combination in itertools.product(*choices)]


def _choices(item: Override) -> list[str]:
    """The overrides that a sweep stands for, or the one that it is; no more than show that they are too many."""
    written = item.input_line or ""
    if not item.is_sweep_override():
        return [written]
    left = written.partition("=")[0]
    values = list(itertools.islice(item.sweep_string_iterator(), MAX_RUNS + 1))
    if not values:
        raise ValueError("it has no values")
    return [f"{left}={value}" for value in values]

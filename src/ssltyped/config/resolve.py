"""Inference: fields that are left to it are filled from facts, by rules that the parts themselves declare.

`resolve` names no component. It asks every part of a config what it infers (`Component.infer`), fills what is
None, and repeats with the new facts until nothing changes: a learning rate follows from the batch, the end of
the warmup from the learning rate. A value that the user set is never overwritten; if it contradicts a rule,
that is an error. Resolving a resolved config changes nothing.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Generic, TypeVar

from ssltyped.config.change import get, replaced
from ssltyped.config.component import Component, ConfigError, Facts, Inference, Problem, Published
from ssltyped.config.generate import is_config, join, part_of, walk
from ssltyped.config.hints import describe, failure, plain, shown
from ssltyped.config.validate import check

T = TypeVar("T")

_MAX_ROUNDS = 10


@dataclasses.dataclass(frozen=True)
class Row:
    """One inferred value: the field's path, what was asked for (always None), what it became, and why."""

    field: str
    before: object
    value: object
    rule: str


@dataclasses.dataclass(frozen=True)
class Resolution(Generic[T]):
    """A config with nothing left to infer, how it came about, the facts it rests on, and what may be unwise in it."""

    config: T
    rows: tuple[Row, ...]
    facts: Facts
    warnings: tuple[Problem, ...] = ()

    def refuse_warnings(self) -> None:
        """Raises `ConfigError` if something in it may be unwise."""
        if self.warnings:
            why = "(a warning, and warnings are errors here)"
            raise ConfigError([Problem(one.path, f"{one.message} {why}") for one in self.warnings])

    def lines(self) -> Iterator[str]:
        """What a plan says of it: every inferred value with its rule, then what may be unwise."""
        if self.rows:
            yield from ("", "inferred")
        for row in self.rows:
            value = f"{row.value:.6g}" if isinstance(row.value, float) else plain(row.value)
            yield f"  {row.field:<28} {value:<20} {row.rule}"
        if self.warnings:
            yield from ("", "may be unwise", *(f"  {warning}" for warning in self.warnings))

    def to_json(self) -> str:
        """`inferences.json`: a list of {field, from, to, rule}."""
        rows = [{"field": r.field, "from": r.before, "to": r.value, "rule": r.rule} for r in self.rows]
        return json.dumps(rows, indent=2, default=_written) + "\n"


def resolve(asked: T, facts_of: Callable[[T], Facts]) -> Resolution[T]:
    """Fill what is left to inference. `facts_of` says what is known about a config; it is asked again each round.

    Raises `ConfigError` with every contradiction, every `Component.problems` and every value that is lacking, at once.
    """
    current = check(asked)
    rows: list[Row] = []
    for _ in range(_MAX_ROUNDS):
        facts = _facts(current, facts_of)
        found, problems = _round(current, facts)
        if problems:
            raise ConfigError([*problems, *_later_ones(current, problems, facts_of)])
        if not found:
            break
        rows += found
        current = check(replaced(current, {row.field: row.value for row in found}))
    else:
        raise AssertionError(f"inference does not settle: {found}")
    if wrong := problems_of(current, facts) or _lacking(current):
        raise ConfigError(wrong)
    return Resolution(config=current, rows=tuple(rows), facts=facts, warnings=tuple(warnings_of(current, facts)))


def _facts(current: T, facts_of: Callable[[T], Facts]) -> Facts:
    try:
        return dataclasses.replace(facts_of(current), published=published_by(current))
    except ConfigError:
        raise
    except ValueError as error:  # a part that is asked for a fact and cannot say
        raise ConfigError([Problem("", str(error))]) from error
    except (ArithmeticError, MemoryError) as error:
        raise ConfigError([Problem("", f"a value is too large: {failure(error)}")]) from error


def published_by(current: object) -> dict[str, tuple[Published, ...]]:
    """What every part publishes, by its path."""
    said = {path: _ask(path, part, lambda kind, part: kind.publish(part)) for path, part in walk(current)}
    return {path: tuple(facts) for path, facts in said.items() if facts}


def _round(current: object, facts: Facts) -> tuple[list[Row], list[Problem]]:
    rows: list[Row] = []
    problems: list[Problem] = []
    for path, inference in _inferences(current, facts):
        if inference.value is None:  # it follows from what is not known yet
            continue
        given = get(current, path)
        if given is None:
            rows.append(Row(field=path, before=None, value=inference.value, rule=inference.rule))
        elif not inference.default and not _agree(given, inference.value):
            message = f"got {shown(given)}, but {shown(inference.value)} follows from the rest: {inference.rule}"
            problems.append(Problem(path, f"{message}; {_remedy(path, given, inference)}"))
    return rows, problems


def _remedy(path: str, given: object, inference: Inference) -> str:
    """What to write: the field is left out, or what it follows from is."""
    if not inference.source:
        return f"write {path}=null, or change what it follows from"
    source = path.removesuffix(inference.field) + inference.source
    return f"write {path}=null to go by {inference.source}, or {source}=null to keep {path}={plain(given)}"


def _later_ones(current: T, found: list[Problem], facts_of: Callable[[T], Facts]) -> list[Problem]:
    """The contradictions that would come to light when those that were found are mended: all are told at once."""
    freed = replaced(current, {problem.path: None for problem in found})
    for _ in range(_MAX_ROUNDS):
        try:
            rows, problems = _round(freed, _facts(freed, facts_of))
        except ConfigError:
            return []
        if problems:
            return [*problems, *_later_ones(freed, problems, facts_of)]
        if not rows:
            return []
        freed = replaced(freed, {row.field: row.value for row in rows})
    return []


def _inferences(current: object, facts: Facts) -> list[tuple[str, Inference]]:
    """What every part infers, with the path of the field from the root; the first rule for a field counts."""
    found: dict[str, Inference] = {}
    for path, part in walk(current):
        for inference in _ask(path, part, lambda kind, part: kind.infer(part, facts)):
            found.setdefault(join(path, inference.field), inference)
    return list(found.items())


def problems_of(current: object, facts: Facts) -> list[Problem]:
    """What cannot work although every type is right."""
    return _said(current, lambda kind, part: kind.problems(part, facts))


def warnings_of(current: object, facts: Facts) -> list[Problem]:
    """What works and may be unwise."""
    return _said(current, lambda kind, part: kind.warnings(part, facts))


def _said(current: object, question: Callable[[Any, Any], Iterable[Problem]]) -> list[Problem]:
    """What the parts say of themselves, with paths from the root."""
    return [
        Problem(join(path, problem.path), problem.message)
        for path, part in walk(current)
        for problem in _ask(path, part, question)
    ]


def _lacking(current: object) -> list[Problem]:
    """Fields that are left to inference, and that no rule could fill."""
    return [
        Problem(join(path, name), f"cannot be inferred here: give it ({describe(part_of(part).hints[name])})")
        for path, part in walk(current)
        for name in sorted(part_of(part).inferred)
        if getattr(part, name) is None
    ]


def inferred_below(current: object, below: str) -> list[str]:
    """The fields of the part at a path, and of its parts, that could be inferred and have a value."""
    found = [(path, name) for path, part in walk(get(current, below), below) for name in sorted(part_of(part).inferred)]
    return [where for path, name in found if get(current, where := join(path, name)) is not None]


def _ask(path: str, part: Any, question: Callable[[Any, Any], Any]) -> list[Any]:
    """What a part's class says about its config."""
    kind = part_of(part).kind
    if not issubclass(kind, Component):
        return []
    try:
        return list(question(kind, part))
    except (AttributeError, TypeError) as error:
        if (
            isinstance(error, AttributeError) and error.obj is part
        ):  # of a subclass that inherits the rule, and has fewer parameters
            message = f"{kind.__name__}'s infer or problems reads {error.name!r}, which its constructor does not take"
            raise ConfigError([Problem(path, f"{message}: add the parameter, or override the method")]) from error
        message = f"a rule of {kind.__name__} fails: {failure(error)}; fields that are left to inference are None in it"
        raise ConfigError([Problem(path, message)]) from error


def _agree(given: object, inferred: object) -> bool:
    """Equal, and for floats equal to rounding: a value read back from YAML agrees with the rule."""
    if isinstance(given, float | int) and isinstance(inferred, float | int):
        return math.isclose(given, inferred, rel_tol=1e-6, abs_tol=1e-12)
    if isinstance(given, list | tuple) and isinstance(inferred, list | tuple):
        return len(given) == len(inferred) and all(map(_agree, given, inferred))
    return given == inferred


def _written(value: Any) -> object:
    """A value that JSON has no word for: a part by its class, an enum by its value, a path as text."""
    return part_of(value).name if is_config(value) else value.value if isinstance(value, Enum) else str(value)

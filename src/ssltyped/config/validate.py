"""Validation: every value of a config against the declared type of its field, the whole config at once."""

import functools
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

import pydantic

from ssltyped.config.component import ConfigError, Problem
from ssltyped.config.generate import REQUIRED, TARGET, instantiate, is_config, join, part_of
from ssltyped.config.hints import describe, nearest, plain, shown
from ssltyped.config.kinds import VALUES, names_of

R = TypeVar("R")

_SETTINGS = pydantic.ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, coerce_numbers_to_str=True)


def check(config: R) -> R:
    """The config with every value in its declared type (a list given for a tuple becomes one, "sqrt" its enum).

    Raises `ConfigError` with every error of the whole config: path, value, what is allowed, the nearest name.
    """
    checked, problems = validate(config, "")
    if problems:
        raise ConfigError(problems)
    return cast(R, checked)


def build(config: R, path: str = "") -> R:
    """The object that a config describes, its parts built first. Raises `ConfigError`; its paths start with `path`."""
    return cast(R, instantiate(check(config), path))


def validate(value: Any, path: str) -> tuple[Any, list[Problem]]:
    """A config with its values coerced, and what is wrong with it."""
    if is_config(value):
        return _validate_part(value, path)
    if isinstance(value, dict):
        below = {key: validate(item, join(path, key)) for key, item in value.items()}
        return {key: item for key, (item, _) in below.items()}, [p for _, found in below.values() for p in found]
    if isinstance(value, list | tuple):
        pairs = [validate(item, join(path, index)) for index, item in enumerate(value)]
        return type(value)(item for item, _ in pairs), [problem for _, found in pairs for problem in found]
    return value, []


def _validate_part(config: Any, path: str) -> tuple[Any, list[Problem]]:
    part = part_of(config)
    problems: list[Problem] = []
    result: dict[str, Any] = {}
    for name in part.parameters:
        where, value = join(path, name), getattr(config, name)
        if isinstance(value, str) and value == REQUIRED:
            problems.append(Problem(where, f"required: {describe(part.hints[name])}; set it with {where}=VALUE"))
            result[name] = value
            continue
        value, below = validate(value, where)
        result[name], own = (
            (value, []) if value is None and name in part.inferred else _of_type(value, part, name, where)
        )
        # What a part of the wrong kind lacks is beside the point.
        problems += own + [p for p in below if not any(p.path.startswith(f"{o.path}.") for o in own)]
    return type(config)(**result), problems


def _of_type(value: Any, part: Any, name: str, path: str) -> tuple[Any, list[Problem]]:
    try:
        return _adapter(part.hints[name]).validate_python(value), []
    except pydantic.ValidationError as error:
        found: dict[str, list[str]] = {}
        for item in error.errors(include_url=False, include_context=True):
            found.setdefault(join(path, *_real_steps(value, item["loc"])), []).append(
                _wording(dict(item), part.hints[name])
            )
        return value, [Problem(where, " or ".join(dict.fromkeys(texts))) for where, texts in found.items()]


def _real_steps(value: Any, location: tuple[int | str, ...]) -> list[int | str]:
    """pydantic mixes names of union members into a location; only steps that exist in the value are kept."""
    steps: list[int | str] = []
    for step in location:
        inside = isinstance(value, list | tuple) and isinstance(step, int) and step < len(value)
        if inside or (isinstance(value, dict) and step in value):
            value = value[step]
            steps.append(step)
    return steps


def _wording(item: dict[str, Any], hint: Any) -> str:
    """One pydantic error as 'got VALUE: WHAT IS ALLOWED'."""
    given = item["input"]
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message.replace("Input", "input", 1) if message.startswith("Input") else message
    match item["type"]:
        case "path_type":
            message = "input should be a path"
        case "bool_type":
            message = "input should be true or false"
        case "list_type" | "tuple_type":
            message = f"input should be a list, in brackets: {describe(hint)}"
            if isinstance(given, str | int | float):
                message += f"; one item is [{plain(given)}]"
        case "dict_type":
            message = f"input should be a dict by name, {{NAME: VALUE}}: {describe(hint)}"
        case "too_short" | "too_long" | "missing":
            message = f"has {_count(given)}; want a {describe(hint)}"
        case "literal_error" | "enum" if isinstance(given, str):
            allowed = str(item["ctx"]["expected"]).replace(" or ", ", ").split(", ")
            near = nearest(given, [word.strip("'") for word in allowed])
            message += near if "did you mean" in near else ""
    return message if message.startswith("got ") else f"got {shown(given)}: {message}"


def _count(given: Any) -> str:
    number = len(given) if isinstance(given, list | tuple | dict | set) else 1
    return f"{number} item" + "s" * (number != 1)


@functools.cache
def _adapter(hint: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(_checked_hint(hint), config=_SETTINGS)


def _checked_hint(hint: Any) -> Any:
    """The hint that pydantic checks: scalars strictly (true is no number), enums also by name, parts by kind."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(_checked_hint(args[0]), *args[1:])]
    if origin in (Union, UnionType):
        return Union[tuple(_checked_hint(arg) for arg in args)]
    if origin in (list, dict, tuple, set):
        return origin[tuple(arg if arg is Ellipsis else _checked_hint(arg) for arg in args)]
    if hint is int:
        return Annotated[hint, pydantic.Strict(), pydantic.Field(ge=-(2**63), lt=2**63)]  # what a tensor can hold
    if hint in (float, bool):
        return Annotated[hint, pydantic.Strict()]
    if not isinstance(hint, type) or origin is not None or hint is object:
        return hint
    if issubclass(hint, Enum):
        return Annotated[hint, pydantic.BeforeValidator(functools.partial(_member, hint))]
    if issubclass(hint, Path):
        return Annotated[hint, pydantic.AfterValidator(_at_home)]
    if issubclass(hint, VALUES):
        return hint
    return Annotated[Any, pydantic.PlainValidator(functools.partial(_of_kind, hint))]


def _member(enum: type[Enum], value: object) -> object:
    return enum.__members__.get(value.upper(), value) if isinstance(value, str) else value


def _at_home(path: Path) -> Path:
    """`~` is the home folder, as in a shell."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path.parts[0]} is nobody's home folder here") from error


def _of_kind(kind: type, value: Any) -> Any:
    if is_config(value):
        built = part_of(value).kind
        if issubclass(built, kind):
            return value
        raise ValueError(f"got {built.__name__}, which is no {kind.__name__}{_known_of_kind(kind)}")
    if isinstance(value, dict) and TARGET in value:
        raise ValueError(f"got {value[TARGET]!r}, which is no registered component{_known_of_kind(kind)}")
    if isinstance(value, kind):
        raise ValueError(f"got a built {type(value).__name__}: give its config, {type(value).__name__}Conf(...)")
    article = "an" if kind.__name__[0] in "AEIO" else "a"
    raise ValueError(f"needs {article} {kind.__name__}{_known_of_kind(kind)}")


def _known_of_kind(kind: type) -> str:
    names = names_of([kind])
    return f" (there is {', '.join(names)})" if names else ""

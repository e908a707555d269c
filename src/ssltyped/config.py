"""Configs: generated from a component's constructor, typed as what they build, validated as a whole.

    SimCLRLossConf = config_for(SimCLRLoss)         # one line beside the class
    loss = SimCLRLossConf(temperature=0.2)          # mypy: a SimCLRLoss; at run time: a small dataclass
    check(loss)                                     # every error of the whole tree at once, or the clean config
    build(loss)                                     # the object

hydra-zen generates the dataclasses, pydantic validates, OmegaConf reads YAML and interpolations.
This is the one file that knows these libraries, and the one where `Any` is allowed.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ParamSpec, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import hydra_zen
import pydantic
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from ssltyped.hints import brief, describe, failure, nearest
from ssltyped.types import Problem

P = ParamSpec("P")
R = TypeVar("R")

Tree: TypeAlias = dict[str, Any]
"""A config as plain data: a part is a dict with `_target_`; values are Python values, lists and dicts."""

REQUIRED: Any = "???"
"""A field that the recipe leaves to the user: `data.train.path`. A run without it does not start."""

TARGET = "_target_"
_SETTINGS = pydantic.ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, coerce_numbers_to_str=True)
_VALUES = (int, float, str, bool, bytes, Path, Enum, NoneType, list, tuple, dict, set)


class ConfigError(ValueError):
    """Everything that is wrong with a config, a line a problem."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclasses.dataclass(frozen=True)
class Part:
    """A registered component: what it builds and the config class made from its constructor."""

    target: Callable[..., Any]
    config: type
    parameters: Mapping[str, inspect.Parameter]

    @property
    def kind(self) -> type:
        """The class of what it builds: the component itself, or what a factory function says it returns."""
        return self.target if inspect.isclass(self.target) else get_type_hints(self.target).get("return", object)

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        owner: Any = self.target.__init__ if inspect.isclass(self.target) else self.target
        try:
            return get_type_hints(owner, include_extras=True)
        except NameError as error:
            message = f"a type of its constructor is not known at run time (import it outside TYPE_CHECKING): {error}"
            raise ConfigError([Problem(f"{self.target.__module__}.{self.target.__qualname__}", message)]) from error


_PARTS: dict[str, Part] = {}


def config_for(target: Callable[P, R]) -> Callable[P, R]:
    """The config class of a component class (or of a function that returns a component).

    To the type checker it has the constructor's parameters and returns what it builds, so configs nest and
    a wrong name, type or kind of part is an error in the editor. Bind it as `<Name>Conf` beside the class.
    Only what has been registered here can be instantiated from a config.
    """
    name = target.__name__
    path = f"{target.__module__}.{target.__qualname__}"
    if path in _PARTS and _PARTS[path].target is target:
        return cast("Callable[P, R]", _PARTS[path].config)
    if "<locals>" in path:
        raise TypeError(f"{path}: a component is at the top of a module, where a config can find it")
    bare = getattr(target, "__init__", None) is nn.Module.__init__  # its *args, **kwargs are no parameters
    parameters = {} if bare else inspect.signature(target).parameters
    if wrong := [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY or p.annotation is p.empty]:
        raise TypeError(f"{path}: parameters of a component are keyword-only and typed; not so: {', '.join(wrong)}")
    generated = hydra_zen.builds(
        cast(Any, target),
        populate_full_signature=True,
        hydra_convert="all",
        zen_dataclass={"cls_name": f"{name}Conf", "module": target.__module__, "kw_only": True},
    )
    _refuse_unknown_names(generated, name, list(parameters))
    _PARTS[path] = Part(target=target, config=generated, parameters=parameters)
    return cast("Callable[P, R]", generated)


def _refuse_unknown_names(generated: type, name: str, known: list[str]) -> None:
    """A mistyped field names the field that was meant; the dataclass would only say 'unexpected keyword'."""
    original: Callable[..., None] = generated.__init__  # type: ignore[misc]  # replaced on this class only

    def __init__(self: object, **fields: Any) -> None:
        if unknown := [field for field in fields if field not in known]:
            raise TypeError("; ".join(f"{name} has no field {field!r}{nearest(field, known)}" for field in unknown))
        original(self, **fields)

    generated.__init__ = functools.wraps(original)(__init__)  # type: ignore[misc]  # see above


def parts() -> Mapping[str, Part]:
    """Every component registered so far, by its import path."""
    return _PARTS


def part_of(config: object) -> Part:
    """The part that a config (or a tree node) builds."""
    path = config[TARGET] if isinstance(config, dict) else getattr(config, TARGET)
    return _PARTS[path]


def is_config(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and getattr(value, TARGET, None) in _PARTS


def to_tree(value: Any) -> Any:
    """A config as plain data; the inverse of `from_tree`."""
    if is_config(value):
        fields = {name: to_tree(getattr(value, name)) for name in part_of(value).parameters}
        return {TARGET: getattr(value, TARGET), **fields}
    if isinstance(value, list | tuple):
        return type(value)(to_tree(item) for item in value)
    return {key: to_tree(item) for key, item in value.items()} if isinstance(value, dict) else value


def from_tree(tree: Any) -> Any:
    """Config objects from a checked tree."""
    if isinstance(tree, list | tuple):
        return type(tree)(from_tree(item) for item in tree)
    if not isinstance(tree, dict):
        return tree
    fields = {key: from_tree(item) for key, item in tree.items() if key != TARGET}
    return part_of(tree).config(**fields) if TARGET in tree else fields


def join(path: str, *steps: object) -> str:
    return ".".join([path, *map(str, steps)] if path else map(str, steps))


def walk(config: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every part of a config with its path, outer parts first."""
    if is_config(config):
        yield path, config
        for name in part_of(config).parameters:
            yield from walk(getattr(config, name), join(path, name))
    elif isinstance(config, list | tuple):
        for index, item in enumerate(config):
            yield from walk(item, join(path, index))
    elif isinstance(config, dict):
        for key, item in config.items():
            yield from walk(item, join(path, key))


def get(config: object, path: str) -> Any:
    """The value at `heads.0.dims`."""
    for step in path.split("."):
        config = config[int(step)] if isinstance(config, list | tuple) else getattr(config, step)
    return config


def replaced(config: R, values: Mapping[str, object]) -> R:
    """The same config with other values at these paths; the given one is not changed."""
    tree = to_tree(config)
    for path, value in values.items():
        *way, last = path.split(".")
        node = tree
        for step in way:
            node = node[int(step)] if isinstance(node, list | tuple) else node[step]
        node[int(last) if isinstance(node, list) else last] = to_tree(value)
    return cast(R, from_tree(tree))


# --- validation ---------------------------------------------------------------------------------------------


def check(config: R) -> R:
    """The config with every value in its declared type (a list given for a tuple becomes one, "sqrt" its enum).

    Raises `ConfigError` with every error of the whole tree: path, value, what is allowed, the nearest name.
    """
    return cast(R, _checked(to_tree(config)))


def _checked(tree: Tree) -> Any:
    tree, problems = validate(tree, "")
    if problems:
        raise ConfigError(problems)
    return from_tree(tree)


def validate(tree: Any, path: str) -> tuple[Any, list[Problem]]:
    """A tree with its values coerced, and what is wrong with it."""
    if isinstance(tree, list | tuple):
        pairs = [validate(item, join(path, index)) for index, item in enumerate(tree)]
        return type(tree)(item for item, _ in pairs), [problem for _, found in pairs for problem in found]
    if not isinstance(tree, dict):
        return tree, []
    if TARGET not in tree:
        checked = {key: validate(item, join(path, key)) for key, item in tree.items()}
        return {k: item for k, (item, _) in checked.items()}, [p for _, found in checked.values() for p in found]
    return _validate_part(tree, path)


def _validate_part(tree: Tree, path: str) -> tuple[Tree, list[Problem]]:
    part = _PARTS.get(tree[TARGET])
    if part is None:
        return tree, [Problem(join(path, TARGET), f"{tree[TARGET]!r} is not a registered component")]
    known = list(part.parameters)
    problems = [
        Problem(join(path, key), f"{part.target.__name__} has no such field{nearest(key, known)}")
        for key in tree
        if key != TARGET and key not in known
    ]
    result: Tree = {TARGET: tree[TARGET]}
    for name, parameter in part.parameters.items():
        where = join(path, name)
        value = tree.get(name, parameter.default)
        if value is parameter.empty or (isinstance(value, str) and value == REQUIRED):
            problems.append(Problem(where, f"required: {describe(part.hints[name])}; set it with {where}=VALUE"))
            continue
        value, below = validate(value, where)
        result[name], own = _validate_value(value, part.hints[name], where)
        # What a part of the wrong kind lacks is beside the point.
        problems += own + [p for p in below if not any(p.path.startswith(f"{o.path}.") for o in own)]
    return result, problems


def _validate_value(value: Any, hint: Any, path: str) -> tuple[Any, list[Problem]]:
    try:
        return _adapter(hint).validate_python(value), []
    except pydantic.ValidationError as error:
        found: dict[str, list[str]] = {}
        for item in error.errors(include_url=False, include_context=True):
            found.setdefault(join(path, *_real_steps(value, item["loc"])), []).append(_wording(dict(item)))
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


def _wording(item: dict[str, Any]) -> str:
    """One pydantic error as 'got VALUE: WHAT IS ALLOWED'."""
    given = item["input"]
    message = str(item["msg"]).removeprefix("Value error, ").replace("Input", "input")
    if item["type"] == "path_type":
        message = "input should be a path"
    if item["type"] in ("literal_error", "enum") and isinstance(given, str):
        allowed = str(item["ctx"]["expected"]).replace(" or ", ", ").split(", ")
        message += nearest(given, [word.strip("'") for word in allowed])
    if message.startswith("got "):
        return message
    known = isinstance(given, dict) and given.get(TARGET) in _PARTS
    return f"got {part_of(given).target.__name__ if known else brief(repr(given))}: {message}"


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
    if hint in (int, float, bool):
        return Annotated[hint, pydantic.Strict()]
    if not isinstance(hint, type) or origin is not None or hint is object:
        return hint
    if issubclass(hint, Enum):
        return Annotated[hint, pydantic.BeforeValidator(functools.partial(_member, hint))]
    if issubclass(hint, _VALUES):
        return hint
    return Annotated[Any, pydantic.PlainValidator(functools.partial(_of_kind, hint))]


def _member(enum: type[Enum], value: object) -> object:
    return enum.__members__.get(value.upper(), value) if isinstance(value, str) else value


def _of_kind(kind: type, value: Any) -> Any:
    if isinstance(value, dict) and value.get(TARGET) in _PARTS:
        built = part_of(value).kind
        if issubclass(built, kind):
            return value
        raise ValueError(f"got {built.__name__}, which is no {kind.__name__}{_known_of_kind(kind)}")
    if isinstance(value, dict) and TARGET in value:
        raise ValueError(f"got {value[TARGET]!r}, which is no registered component{_known_of_kind(kind)}")
    if isinstance(value, kind):
        raise ValueError(f"got a built {type(value).__name__}: give its config, {type(value).__name__}Conf(...)")
    raise ValueError(f"needs a {kind.__name__}{_known_of_kind(kind)}")


def _known_of_kind(kind: type) -> str:
    names = [part.target.__name__ for part in _PARTS.values() if issubclass(part.kind, kind)]
    return f" (there is {', '.join(sorted(names))})" if names else ""


# --- building and YAML --------------------------------------------------------------------------------------


def build(config: R, path: str = "") -> R:
    """The object that a config describes, its parts built first. Raises `ConfigError`; its paths start with `path`."""
    return cast(R, _instantiate(check(config), path))


def _instantiate(value: Any, path: str) -> Any:
    if is_config(value):
        part = part_of(value)
        fields = {name: _instantiate(getattr(value, name), join(path, name)) for name in part.parameters}
        try:
            return part.target(**fields)
        except ValueError as error:
            raise error if isinstance(error, ConfigError) else ConfigError([Problem(path, str(error))]) from error
    if isinstance(value, list | tuple):
        return type(value)(_instantiate(item, join(path, index)) for index, item in enumerate(value))
    return {k: _instantiate(v, join(path, k)) for k, v in value.items()} if isinstance(value, dict) else value


def to_yaml(config: object) -> str:
    """YAML text from which `from_yaml` makes the same config."""
    return OmegaConf.to_yaml(OmegaConf.create({"root": _plain(to_tree(config))}).root)


def _plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _plain(item) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(item) for item in tree]
    if isinstance(tree, str | Path):
        return str(tree).replace("${", r"\${")
    return tree.value if isinstance(tree, Enum) else tree


def from_yaml(text: str) -> Any:
    """The checked config that a YAML text describes; `${path}` refers to another field. Raises `ConfigError`."""
    try:
        read = OmegaConf.to_container(OmegaConf.create(text))
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([Problem("", f"not a readable YAML config: {brief(str(error))}")]) from error
    if not isinstance(tree := interpolated(read), dict) or TARGET not in tree:
        raise ConfigError([Problem("", f"a YAML config starts with {TARGET}: PATH.OF.A.COMPONENT")])
    import_targets(tree)
    return _checked(tree)


def interpolated(tree: Any) -> Any:
    """The tree with every `${other.field}` replaced by the value it names. Raises `ConfigError`."""
    if "${" not in repr(tree):
        return tree
    try:
        return OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        path, message = getattr(error, "full_key", None), getattr(error, "msg", None)
        raise ConfigError([Problem(str(path or ""), brief(str(message or error)))]) from error


def import_targets(tree: Any) -> None:
    """Import the modules that a YAML file names, so that their components register; nothing is called."""
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        import_targets(item)
    if isinstance(tree, dict) and TARGET in tree:
        tree[TARGET] = path = str(tree[TARGET])
        try:
            importlib.import_module(path.rpartition(".")[0] or path)
        except Exception as error:  # whatever a user's module raises is the user's to mend
            raise ConfigError([Problem(TARGET, f"{path!r} cannot be imported: {failure(error)}")]) from error

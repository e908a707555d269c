"""Configs: generated from a component's constructor, typed as what they build.

SimCLRLossConf = config_for(SimCLRLoss)         # one line beside the class
loss = SimCLRLossConf(temperature=0.2)          # to a type checker a SimCLRLoss; at run time: a small dataclass
build(loss)                                     # the object
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast, get_type_hints

import hydra_zen
from torch import nn

from ssltyped.config.component import ConfigError, Problem, left_to_inference
from ssltyped.config.hints import describe, failure, nearest

P = ParamSpec("P")
R = TypeVar("R")

REQUIRED: Any = "???"
"""A field that the recipe leaves to the user: `data.train.path`. A run without it does not start."""

TARGET = "_target_"


@dataclasses.dataclass(frozen=True)
class Part:
    """A registered component: what it builds and the config class made from its constructor."""

    target: Callable[..., Any]
    config: type
    parameters: Mapping[str, inspect.Parameter]

    @property
    def name(self) -> str:
        return self.target.__name__

    @functools.cached_property
    def kind(self) -> type:
        """The class of what it builds: the component itself, or what a factory function says it returns."""
        return self.target if inspect.isclass(self.target) else get_type_hints(self.target).get("return", object)

    @property
    def _constructor(self) -> Callable[..., Any]:
        return cast("Callable[..., Any]", self.target.__init__) if inspect.isclass(self.target) else self.target

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self._constructor, include_extras=True)
        except NameError as error:
            message = f"a type of its constructor is not known at run time (import it outside TYPE_CHECKING): {error}"
            raise ConfigError([Problem(f"{self.target.__module__}.{self.target.__qualname__}", message)]) from error

    @functools.cached_property
    def inferred(self) -> frozenset[str]:
        """The fields that a rule may fill: None in a config stands for that."""
        return left_to_inference(self._constructor) if self.parameters else frozenset()


_PARTS: dict[str, Part] = {}


def config_for(target: Callable[P, R]) -> Callable[P, R]:
    """The config class of a component class (or of a function that returns a component).

    To the type checker it has the constructor's parameters and returns what it builds, so configs nest and
    a wrong name, type or kind of part is an error in the editor. Bind it as `<Name>Conf` beside the class.
    Only what has been registered here can be instantiated from a config. Raises TypeError for what cannot be one: a
    class that is abstract or inside a function, parameters that are positional or have no type.
    """
    name = target.__name__
    path = f"{target.__module__}.{target.__qualname__}"
    if path in _PARTS and _PARTS[path].target is target:
        return cast("Callable[P, R]", _PARTS[path].config)
    if "<locals>" in path:
        raise TypeError(f"{path}: a component is at the top of a module, where a config can find it")
    if inspect.isabstract(target):
        lacks = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
        raise TypeError(f"{path} is abstract and cannot be built: give it {lacks}, or make a config of its subclasses")
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
    if inspect.isclass(target):
        _build_defaults(target, {name: p.default for name, p in parameters.items() if is_config(p.default)})
    return cast("Callable[P, R]", generated)


def _refuse_unknown_names(generated: type, name: str, known: list[str]) -> None:
    """A mistyped field names the field that was meant; the dataclass would only say 'unexpected keyword'."""
    original: Callable[..., None] = generated.__init__  # type: ignore[misc]  # replaced on this class only

    def __init__(config: object, **fields: Any) -> None:
        if unknown := [field for field in fields if field not in known]:
            raise TypeError("; ".join(f"{name} has no field {field!r}{nearest(field, known)}" for field in unknown))
        original(config, **fields)

    generated.__init__ = functools.wraps(original)(__init__)  # type: ignore[misc]  # see above


def _build_defaults(target: type, configs: Mapping[str, Any]) -> None:
    """A part that is made by hand gets what a default builds that is a config: `rate: Rate = RateConf()`."""
    original = cast("Callable[..., None]", target.__init__)  # type: ignore[misc]  # of this class

    @functools.wraps(original)
    def __init__(part: object, /, **fields: Any) -> None:
        left_out = {name: instantiate(one, name) for name, one in configs.items() if name not in fields}
        original(part, **left_out, **fields)

    if configs:
        setattr(target, "__init__", __init__)  # noqa: B010  # mypy takes it for a method of all classes


def parts() -> Mapping[str, Part]:
    """Every component registered so far, by its import path."""
    return _PARTS


def part_of(config: object) -> Part:
    """The part that a config (or a node of a tree) builds."""
    return _PARTS[config[TARGET] if isinstance(config, dict) else getattr(config, TARGET)]


def is_config(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and getattr(value, TARGET, None) in _PARTS


def join(path: str, *steps: object) -> str:
    return ".".join(step for step in (path, *map(str, steps)) if step)


@contextmanager
def raised_by(path: str) -> Iterator[None]:
    """Problems that the part at `path` raises in the block get paths from where that stands."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([Problem(join(path, one.path), one.message) for one in error.problems]) from error


def children(value: object) -> Iterator[tuple[str, Any]]:
    """What is directly below a config, a list or a dict, with its step of the path; nothing below a value."""
    if is_config(value):
        yield from ((name, getattr(value, name)) for name in part_of(value).parameters)
    elif isinstance(value, list | tuple):
        yield from ((str(index), item) for index, item in enumerate(value))
    elif isinstance(value, dict):
        yield from ((str(key), item) for key, item in value.items())


def walk(config: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of a config with its path, outer parts first."""
    if is_config(config):
        yield path, config
    for step, child in children(config):
        yield from walk(child, join(path, step))


def kinds_of(config: object) -> tuple[type, ...]:
    """The classes of a config and of its parts, the outer ones first."""
    return tuple(part_of(part).kind for _, part in walk(config))


def any_says(config: object, flag: str) -> bool:
    """Whether the class of a config, or of one of its parts, says so of itself."""
    return any(getattr(kind, flag, False) for kind in kinds_of(config))


def instantiate(value: Any, path: str = "") -> Any:
    """The object that a checked config describes, its parts built first. Raises `ConfigError`."""
    if isinstance(value, list | tuple):
        return type(value)(instantiate(item, join(path, index)) for index, item in enumerate(value))
    if isinstance(value, dict):
        return {key: instantiate(item, join(path, key)) for key, item in value.items()}
    if not is_config(value):
        return value
    part = part_of(value)
    if missing := [name for name in sorted(part.inferred) if getattr(value, name) is None]:
        message = "is left to inference: resolve the recipe first, or give it"
        raise ConfigError([Problem(join(path, name), f"{message} ({describe(part.hints[name])})") for name in missing])
    fields = {name: instantiate(item, join(path, name)) for name, item in children(value)}
    try:
        return part.target(**fields)
    except ValueError as error:
        raise error if isinstance(error, ConfigError) else ConfigError([Problem(path, str(error))]) from error
    except (Exception, SystemExit) as error:  # a slip in a part, or a size that no memory has
        raise ConfigError([Problem(path, f"{part.name} cannot be built: {failure(error)}")]) from error

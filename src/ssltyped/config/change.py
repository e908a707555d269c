"""A recipe with other values: by fields that a type checker reads, and by paths.

changed(recipe, lambda r: r.epochs)(800)
changed(recipe, lambda r: r.loss)(MoCoLossConf())
changed(recipe, lambda r: part(r.loss, SimCLRLoss).temperature)(0.2)
changed(recipe, lambda r: r.callbacks[-1])(KNNConf())

The given recipe stays as it is. mypy, pyright, ty and pyrefly refuse a field that is not there, a value of another type
and a part of another kind, because the field is read before the value is seen: that is why there are two calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from ssltyped.config.component import ConfigError, Problem
from ssltyped.config.generate import TARGET, children, is_config, part_of, parts
from ssltyped.config.hints import nearest

R = TypeVar("R")
V = TypeVar("V")


def changed(recipe: R, field: Callable[[R], V]) -> Callable[[V], R]:
    """What takes a value and gives the recipe with that value in the field, which `lambda r: r.data.train` names.

    Raises `ConfigError` for a field that is not there, and for what is no field (`lambda r: r.epochs + 1`).
    """
    noted: object = field(cast("R", _Noted(recipe, ())))
    if not isinstance(noted, _Noted) or not noted._way:
        raise ConfigError([Problem("", f"a change names a field, such as lambda r: r.epochs; it gave {noted!r}")])
    way = noted._way
    return lambda value: cast("R", _with(recipe, way, value, ".".join(way)))


def part(value: object, kind: Callable[..., V]) -> V:
    """The same part, typed as the kind that it is, for a field whose type says less: `part(r.loss, SimCLRLoss)`.

    `kind` is the class or its config. Raises `ConfigError` if the part is not of that kind.
    """
    held, path = (value._held, ".".join(value._way)) if isinstance(value, _Noted) else (value, "")
    found = part_of(held).kind if is_config(held) else type(held)
    config_of = parts().get(getattr(kind, TARGET, ""))
    wanted = cast("type", kind) if config_of is None else config_of.kind
    if not issubclass(found, wanted):
        raise ConfigError([Problem(path, f"is a {found.__name__}, and not a {wanted.__name__}")])
    return cast("V", value)


class _Noted:
    """What the function of `changed` gets in place of the recipe: it notes which field is read."""

    __slots__ = ("_held", "_way")

    def __init__(self, held: object, way: tuple[str, ...]) -> None:
        self._held, self._way = held, way

    def __getattr__(self, name: str) -> _Noted:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._below(name)

    def __getitem__(self, key: object) -> _Noted:
        if isinstance(self._held, list | tuple) and isinstance(key, int) and key < 0:
            key += len(self._held)
        return self._below(str(key))

    def __bool__(self) -> bool:
        raise ConfigError([Problem(".".join(self._way), "a change names one field; it cannot depend on a value")])

    def _below(self, step: str) -> _Noted:
        way = (*self._way, step)
        return _Noted(_child(self._held, step, ".".join(way)), way)


def get(config: object, path: str) -> Any:
    """The value at `heads.projector.dims`. Raises `ConfigError` if there is no such field."""
    below: Any = config
    for step in path.split("."):
        below = _child(below, step, path)
    return below


def _child(value: object, step: str, path: str) -> Any:
    found = dict(children(value))
    if step not in found:
        owner = part_of(value).name if is_config(value) else "it"
        raise ConfigError([Problem(path, f"{owner} has no {step!r}{nearest(step, list(found))}")])
    return found[step]


def replaced(config: R, values: Mapping[str, object]) -> R:
    """The same config with other values at these paths, for tools; no type checker reads a path.

    Raises `ConfigError` for a path that is not there.
    """
    for path, value in values.items():
        config = _with(config, path.split("."), value, path)
    return config


def _with(config: Any, way: Sequence[str], value: object, path: str) -> Any:
    if not way:
        return value
    step, *rest = way
    new = _with(_child(config, step, path), rest, value, path)
    if is_config(config):
        return type(config)(**(dict(children(config)) | {step: new}))
    if isinstance(config, dict):
        return {key: new if str(key) == step else item for key, item in config.items()}
    return type(config)(new if str(index) == step else item for index, item in enumerate(config))

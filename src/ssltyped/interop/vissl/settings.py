"""Reading VISSL's settings so that nothing is ignored unnoticed, and making typed configs of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from ssltyped import config
from ssltyped.config import TARGET, ConfigError, join
from ssltyped.config.hints import brief, nearest
from ssltyped.interop.vissl.yaml import Tree, Value
from ssltyped.types import Problem

T = TypeVar("T")


class Settings:
    """A section of the tree. Every key that is asked for is noted in `read`, which all sections share."""

    def __init__(self, values: Tree, path: str, read: set[str]) -> None:
        self.values, self.path, self.read = values, path, read

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def at(self, *keys: str) -> Settings:
        """The section below; an empty one if there is none. Raises `ConfigError` for a value in its place."""
        section = self
        for key in keys:
            value, path = section.values.get(key), join(section.path, key)
            if not isinstance(value, dict | None):
                raise ConfigError([Problem(path, f"got {brief(repr(value))}: want a section")])
            section = Settings(value or {}, path, self.read)
        return section

    def get(self, key: str, kind: type[T], default: T) -> T:
        """The value of `key` as a `kind`; the default if it is missing or null. Raises `ConfigError`."""
        self.skip(key)
        return self.require(key, kind) if key in self else default

    def require(self, key: str, kind: type[T]) -> T:
        """As `get`, of a key that must be there."""
        self.skip(key)
        if key not in self:
            raise ConfigError([Problem(join(self.path, key), f"is missing{nearest(key, list(self.values))}")])
        try:
            return TypeAdapter(kind).validate_python(self.values[key])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise self.wrong(".".join([key, *map(str, first["loc"])]), str(first["msg"])) from error

    def same(self, **defaults: object) -> dict[str, object]:
        """The values of settings that have the same names as our fields, of the types of these defaults of VISSL's."""
        return {key: self.get(key, type(default), default) for key, default in defaults.items()}

    def skip(self, *keys: str) -> None:
        """Note keys as read whose values follow from others, or have no meaning here."""
        self.read.update(join(self.path, key) for key in keys)

    def skip_all(self) -> None:
        """Note the whole section as read."""
        self.read.add(self.path)

    def wrong(self, key: str, message: str) -> ConfigError:
        """The error for the value of `key`."""
        return ConfigError([Problem(join(self.path, key), f"got {brief(repr(self.values.get(key)))}: {message}")])


def make(kind: type[T], fields: Mapping[str, object], where: str) -> T:
    """The checked config of a component; errors name the section of VISSL's settings that it was made from."""
    target = f"{kind.__module__}.{kind.__qualname__}"
    return cast(T, config.from_tree({TARGET: target, **config.to_tree(dict(fields))}, where))


def lower_case(kind: type[object], section: Settings, renames: Mapping[str, str]) -> dict[str, object]:
    """The fields of a component whose settings have the same names in capitals, or those that `renames` gives."""
    known = config.part_of({TARGET: f"{kind.__module__}.{kind.__qualname__}"}).parameters
    found: dict[str, object] = {}
    for key, value in section.values.items():
        if (field := renames.get(key, key.lower())) in known and value is not None:
            section.skip(key)
            found[field] = value
    return found


def choice(
    section: Settings, key: str, options: Mapping[str, T], default: str | None, otherwise: str = "no such option"
) -> T:
    """The option that a text names; without a default it must be there. Raises `ConfigError` with the nearest one."""
    name = section.require(key, str) if default is None else section.get(key, str, default)
    if name not in options:
        raise section.wrong(key, f"{otherwise}{nearest(name, list(options))}")
    return options[name]


def changed(tree: Value, defaults: Value, path: str = "") -> Iterator[tuple[str, Value]]:
    """Every value of `tree` that is not that of `defaults`, with its path; a mapping is compared key by key."""
    if isinstance(tree, dict):
        below = defaults if isinstance(defaults, dict) else {}
        if not tree and defaults is None:
            return
        for key, value in tree.items():
            yield from changed(value, below.get(key), join(path, key))
    elif tree != defaults:
        yield path, tree


def covered(path: str, roots: Sequence[str] | set[str]) -> bool:
    """Whether `path` or something above it is among `roots`."""
    steps = path.split(".")
    return any(".".join(steps[:count]) in roots for count in range(1, len(steps) + 1))

"""Configs as plain data and as YAML: what overrides change, and what a run's folder keeps."""

import importlib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssltyped.config.component import ConfigError, Problem
from ssltyped.config.generate import REQUIRED, TARGET, children, is_config, join, part_of, parts
from ssltyped.config.hints import brief, failure, nearest
from ssltyped.config.validate import validate

Tree: TypeAlias = dict[str, Any]
"""A config as plain data: a part is a dict with `_target_`; values are Python values, lists and dicts."""


def to_tree(value: Any) -> Any:
    """A config as plain data; the inverse of `from_tree`."""
    if is_config(value):
        return {TARGET: getattr(value, TARGET), **{name: to_tree(item) for name, item in children(value)}}
    if isinstance(value, list | tuple):
        return type(value)(to_tree(item) for item in value)
    return {key: to_tree(item) for key, item in value.items()} if isinstance(value, dict) else value


def key_of(config: object) -> str:
    """A text that two checked configs share if they are equal, also after YAML: quick, for what is kept of a part."""
    return repr(to_tree(config))


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of plain data that holds no others, by its path."""
    if isinstance(tree, dict):
        for key, item in tree.items():
            yield from leaves(item, join(path, key))
    elif isinstance(tree, list | tuple):
        for index, item in enumerate(tree):
            yield from leaves(item, join(path, index))
    else:
        yield path, tree


def from_tree(tree: Any, path: str = "") -> Any:
    """The checked config that plain data describes. Raises `ConfigError` with every error; paths start with `path`."""
    problems: list[Problem] = []
    config, found = validate(_configs(tree, path, problems), path)
    if problems or found:
        raise ConfigError([*problems, *found])
    return config


def _configs(tree: Any, path: str, problems: list[Problem]) -> Any:
    """Config objects from a tree; fields that a part does not have are left out and reported."""
    if isinstance(tree, list | tuple):
        return type(tree)(_configs(item, join(path, index), problems) for index, item in enumerate(tree))
    if not isinstance(tree, dict):
        return tree
    below = {key: _configs(item, join(path, key), problems) for key, item in tree.items()}
    if tree.get(TARGET) not in parts():
        return below
    part = part_of(tree)
    known = list(part.parameters)
    for key in below.keys() - {TARGET, *known}:
        problems.append(Problem(join(path, key), f"{part.name} has no such field{nearest(key, known)}"))
    missing = [name for name, parameter in part.parameters.items() if parameter.default is parameter.empty]
    return part.config(**{name: below.get(name, REQUIRED) for name in known if name in below or name in missing})


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
    if tree[TARGET] not in parts():
        raise ConfigError([Problem(TARGET, f"{tree[TARGET]!r} is not a registered component")])
    return from_tree(tree)


def interpolated(tree: Any) -> Any:
    """The tree with every `${other.field}` replaced by the value it names. Raises `ConfigError`."""
    if "${" not in repr(tree):
        return tree
    try:
        return OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        path, message = getattr(error, "full_key", None), getattr(error, "msg", None)
        raise ConfigError([Problem(str(path or ""), brief(str(message or error).partition("\n")[0]))]) from error


def import_targets(tree: Any) -> None:
    """Import the modules that a YAML file names, so that their components register; nothing is called."""
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        import_targets(item)
    if isinstance(tree, dict) and TARGET in tree:
        tree[TARGET] = path = str(tree[TARGET])
        try:
            importlib.import_module(path.rpartition(".")[0] or path)
        except (Exception, SystemExit) as error:  # whatever a user's module raises is the user's to mend
            raise ConfigError([Problem(TARGET, f"{path!r} cannot be imported: {failure(error)}")]) from error

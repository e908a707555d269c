"""VISSL's YAML files and overrides to one tree of values, as Hydra 1.0 composes them; Hydra itself is not run.

The tree starts as `defaults.yaml`. `config=GROUP/NAME` merges `config/GROUP/NAME.yaml` into it, each
`+config/GROUP=NAME` another fragment, in their order; overrides of single values (`config.OPTIMIZER.num_epochs=10`,
with `+` for a key that is not there, `~` to remove one) come last. Mappings merge, everything else is replaced.
"""

import copy
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from ssltyped.config import ConfigError
from ssltyped.config.hints import brief, nearest
from ssltyped.types import Problem

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
Tree: TypeAlias = dict[str, Value]

ROOT = "defaults.yaml"
NO_FILE = "there is no such file"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def compose(configs: Path, overrides: Sequence[str]) -> Tree:
    """The tree of a run: `defaults.yaml` in the folder `configs`, files and single values over it.

    Raises `ConfigError` with every error at once: a missing file, an override that is none, a key that is not there.
    """
    tree = copy.deepcopy(read(configs / ROOT))
    tree.pop("defaults", None)
    tree.pop("hydra", None)
    problems: list[Problem] = []
    parsed = [item for item in (_parsed(text, problems) for text in overrides) if item is not None]
    groups = [item for item in parsed if _is_group(item)]
    if not any(item.key_or_group == "config" for item in groups):
        problems.append(Problem("config", "no configuration is named: give config=GROUP/NAME"))
    for item in groups:
        try:
            merge(tree, read(_file(configs, item)))
        except ConfigError as error:
            problems += error.problems
    for item in parsed:
        if not _is_group(item):
            problems += _set(tree, item)
    if problems:
        raise ConfigError(problems)
    return tree


def read(path: Path) -> Tree:
    """The values of one YAML file. Raises `ConfigError` if there is none, or if it is no mapping."""
    if not path.is_file():
        there = [other.stem for other in path.parent.glob("*.yaml")]
        raise ConfigError([Problem(str(path), f"{NO_FILE}{nearest(path.stem, there)}")])
    return _read(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _read(path: Path, changed: int) -> Tree:
    try:
        tree = _with_numbers(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ConfigError([Problem(str(path), f"is no YAML: {brief(str(error))}")]) from error
    if not isinstance(tree, dict):
        raise ConfigError([Problem(str(path), "is no mapping")])
    if "defaults" in tree and path.name != ROOT:
        raise ConfigError([Problem(str(path), "has a defaults list: name each of its files as +config/GROUP=NAME")])
    return tree


def _with_numbers(value: object) -> Value:
    """The same values, with 1e-4 a number, which to PyYAML (YAML 1.1) is a text."""
    if isinstance(value, dict):
        return {str(key): _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def merge(tree: Tree, over: Tree) -> None:
    """Put the values of `over` into `tree`; mappings merge, everything else is replaced."""
    for key, value in over.items():
        below = tree.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merge(below, value)
        else:
            tree[key] = copy.deepcopy(value)


def _parsed(text: str, problems: list[Problem]) -> Override | None:
    try:
        item = _parser().parse_override(text)
    except (HydraException, ValueError, RecursionError) as error:
        problems.append(Problem(brief(text), f"not an override (want path=value): {brief(str(error))}"))
        return None
    if item.is_sweep_override():
        problems.append(Problem(item.key_or_group, f"{brief(text)!r} is a sweep: import its runs one by one"))
        return None
    return item


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _is_group(item: Override) -> bool:
    """Whether it names a file: config=NAME or +config/GROUP=NAME."""
    return item.key_or_group == "config" or "/" in item.key_or_group


def _file(configs: Path, item: Override) -> Path:
    name = item.value()
    if not isinstance(name, str):
        raise ConfigError([Problem(item.key_or_group, f"got {name!r}: want the name of a file")])
    return configs / item.key_or_group / f"{name}.yaml"


def _set(tree: Tree, item: Override) -> list[Problem]:
    """Set, add or remove one value; what is wrong with that."""
    *way, last = item.key_or_group.split(".")
    node: Value = tree
    for depth, step in enumerate([*way, last]):
        if not isinstance(node, dict):
            return [Problem(item.key_or_group, f"there is nothing below {step!r}'s parent, which is a value")]
        if step not in node and not item.is_add() and not item.is_force_add():
            return [Problem(item.key_or_group, f"there is no {step!r} (+ adds one){nearest(step, list(node))}")]
        if depth < len(way):
            node = node.setdefault(step, {})
    assert isinstance(node, dict)
    if item.is_delete():
        node.pop(last)
        return []
    try:
        value = _with_numbers(item.value())
    except (HydraException, ValueError, TypeError) as error:
        return [Problem(item.key_or_group, str(error))]
    merge(node, {last: value})
    return []

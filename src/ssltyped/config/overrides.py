"""Overrides in Hydra's grammar, applied to a typed config.

    loss.temperature=0.2            a value                 ~callbacks.2       remove an item of a list
    heads.projector.dims=[2048,128] a list                  ~loss.temperature  back to the default
    optimizer=AdamW                 a part, by its class    +callbacks=NaNGuard  append to a list
    loss=my_package.losses:MyLoss   a part of your own      lr=${optimizer.rate.lr} another field's value
    loss.temperature=0.1,0.2 seed=range(3)                  a sweep (with --multirun)

Outer fields are set before inner ones, so `optimizer.rate.lr=1e-3 optimizer=AdamW` means what it says; items are
removed last, so that the numbers in the other overrides stay what they were.
"""

import functools
import importlib
import inspect
import itertools
import math
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeVar, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from ssltyped.config import catalog
from ssltyped.config.component import ConfigError, Problem
from ssltyped.config.generate import REQUIRED, TARGET, Part, join, part_of, parts
from ssltyped.config.hints import brief, failure, nearest
from ssltyped.config.tree import Tree, from_tree, interpolated, to_tree
from ssltyped.config.validate import VALUES

R = TypeVar("R")

MAX_RUNS = 1000
"""Of one --multirun: more is a slip of the keyboard."""


def override(recipe: R, overrides: Sequence[str]) -> R:
    """The recipe with fields changed, checked as a whole; the given one is not changed.

    Raises `ConfigError` with every error at once: of the grammar, of paths, of names and of values.
    """
    tree = _changeable(to_tree(recipe))
    assert isinstance(tree, dict), "a recipe is a config"
    parsed, problems = _parse(overrides)
    for item in sorted(parsed, key=_order):
        try:
            _apply(tree, item)
        except ConfigError as error:
            problems += error.problems
    try:
        result: R = from_tree(interpolated(tree))
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return result


def _order(item: Override) -> tuple[bool, int, int]:
    """Outer fields first; removals after all, from the end of a list, so that no number changes its meaning."""
    last = item.key_or_group.rpartition(".")[2]
    from_end = -int(last) if item.is_delete() and last.isdecimal() else 0
    return item.is_delete(), item.key_or_group.count("."), from_end


def _changeable(tree: object) -> object:
    """A copy in which tuples are lists, so that their items can be set; validation makes them tuples again."""
    if isinstance(tree, list | tuple):
        return [_changeable(item) for item in tree]
    return {key: _changeable(item) for key, item in tree.items()} if isinstance(tree, dict) else tree


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination that the sweeps among the overrides ask for; one list if there is none.

    Raises `ConfigError` for what is no override, and for more than `MAX_RUNS` combinations or none.
    """
    parsed, problems = _parse(overrides, sweeps=True)
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


def _parse(overrides: Iterable[str], sweeps: bool = False) -> tuple[list[Override], list[Problem]]:
    parsed: list[Override] = []
    problems: list[Problem] = []
    for text in overrides:
        try:
            item = _parser().parse_override(text)
        except (HydraException, ValueError, RecursionError) as error:  # numbers too long and lists too deep, too
            problems.append(Problem(brief(text), f"not an override (want path=value): {brief(str(error))}"))
            continue
        if item.is_sweep_override() and not sweeps:
            message = f"{brief(text)!r} is a sweep: add --multirun, or [..] for a list"
            problems.append(Problem(item.key_or_group, message))
        elif item.package is not None:
            problems.append(Problem(brief(text), "there are no packages here: want path=value"))
        else:
            parsed.append(item)
    return parsed, problems


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _apply(tree: Tree, item: Override) -> None:
    *way, last = item.key_or_group.split(".")
    node: object = tree
    hint: object = object
    for depth, step in enumerate(way):
        node, hint = _child(node, hint, step, ".".join(way[:depth]))
    path = ".".join(way)
    if item.is_delete():
        _remove(node, last, path)
        return
    try:
        value: object = item.value()
    except (HydraException, ValueError, TypeError) as error:
        raise ConfigError([Problem(item.key_or_group, str(error))]) from error
    if item.is_add() and isinstance(node, dict):
        present, item_hint = _child(node, hint, last, path, new=True)
        if isinstance(present, list):
            present.append(_with_parts(value, _inner(item_hint), join(path, last)))
            return
    _, hint = _child(node, hint, last, path, new=item.is_add())
    if isinstance(value, int | float) and _takes_only_text(hint):
        value = (item.input_line or "").partition("=")[2].strip()  # name=2024_01 is no number
    value = _with_parts(value, hint, join(path, last))
    if isinstance(node, list):
        node[int(last)] = value
    else:
        assert isinstance(node, dict), "_child has refused everything else"
        node[last] = value


def _child(node: object, hint: object, step: str, path: str, *, new: bool = False) -> tuple[object, object]:
    """The value below `node` at `step`, and its declared type; errors name what there is instead.

    A dict of parts has no other names than are there, unless `new` is to be added.
    """
    where = join(path, step)
    if isinstance(node, dict) and TARGET in node:
        part = part_of(node)
        if step == TARGET:
            raise ConfigError([Problem(where, f"cannot be set; replace the part by its class: {path or 'PATH'}=CLASS")])
        if step not in part.parameters:
            raise ConfigError([Problem(where, f"{part.name} has no such field{_nearest_field(part, step, node)}")])
        default, below = part.parameters[step].default, part.hints.get(step, object)
        if default is inspect.Parameter.empty and any(get_origin(option) is dict for option in options(below)):
            return node.setdefault(step, {}), below
        return node.get(step, None if default is inspect.Parameter.empty else default), below
    if isinstance(node, list | tuple):
        if not step.isdigit() or int(step) >= len(node):
            raise ConfigError([Problem(where, f"no such item: {path} has {len(node)}, counted from 0")])
        return node[int(step)], _inner(hint, int(step))
    if isinstance(node, dict):
        inner = _inner(hint)
        if step not in node and not new and _part_kinds(inner):
            adds = f"; +{where}=CLASS adds one"
            raise ConfigError([Problem(where, f"{path} has no {step!r}{nearest(step, list(node))}{adds}")])
        return node.get(step), inner
    given = "not set" if node is None else f"the value {node!r}"
    kinds = ", ".join(kind.__name__ for kind in _part_kinds(hint))
    message = f"{path} is {given} and has no fields" + (f"; set it to a part first: {path}={kinds}" if kinds else "")
    raise ConfigError([Problem(where, message)])


def _nearest_field(part: Part, step: str, node: Tree) -> str:
    """The field that was meant, also if it is one of a part below: optimizer.lr is optimizer.rate.lr."""
    below = [
        f"{name}.{step}"
        for name, value in node.items()
        if isinstance(value, dict) and TARGET in value and step in part_of(value).parameters
    ]
    return f"; did you mean {below[0]!r}?" if below else nearest(step, list(part.parameters))


def _remove(node: object, last: str, path: str) -> None:
    _child(node, object, last, path)
    if isinstance(node, list):
        del node[int(last)]
    elif isinstance(node, dict):
        node.pop(last, None)


def _inner(hint: object, index: int = 0) -> object:
    """The declared type of an item of a list, tuple or dict."""
    for option in options(hint):
        args = [arg for arg in get_args(option) if arg is not Ellipsis]
        if get_origin(option) is dict:
            return args[1]
        if get_origin(option) in (list, tuple, set):
            return args[min(index, len(args) - 1)]
    return object


def options(hint: object) -> list[object]:
    if get_origin(hint) is Annotated:
        return options(get_args(hint)[0])
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        return [option for arg in get_args(hint) for option in options(arg)]
    return [hint]


def _takes_only_text(hint: object) -> bool:
    kinds = [option for option in options(hint) if option is not type(None)]
    return all(isinstance(kind, type) and issubclass(kind, str | Path) for kind in kinds)


def _part_kinds(hint: object) -> list[type]:
    return [o for o in options(hint) if isinstance(o, type) and o is not object and not issubclass(o, VALUES)]


def _with_parts(value: object, hint: object, path: str) -> object:
    """The value with names of classes, where a part is wanted, replaced by the part with its defaults."""
    if isinstance(value, list) and not any(get_origin(option) is dict for option in options(hint)):
        inner = _inner(hint)
        return [_with_parts(item, inner, join(path, index)) for index, item in enumerate(value)]
    if isinstance(value, dict) and TARGET in value:
        raise ConfigError([Problem(path, f"{TARGET} cannot be set; replace the part by its class: {path}=CLASS")])
    if isinstance(value, dict) and any(get_origin(option) is dict for option in options(hint)):
        return {key: _with_parts(item, _inner(hint), join(path, key)) for key, item in value.items()}
    kinds = _part_kinds(hint)
    takes_text = any(isinstance(o, type) and issubclass(o, str | Path | Enum) for o in options(hint))
    if not isinstance(value, str) or not kinds or takes_text or "${" in value or value == REQUIRED:
        return value
    part = find_part(value, kinds, path)
    return {TARGET: f"{part.target.__module__}.{part.target.__qualname__}"} | {
        name: _changeable(to_tree(parameter.default))
        for name, parameter in part.parameters.items()
        if parameter.default is not parameter.empty
    }


def find_part(name: str, kinds: Sequence[type], path: str) -> Part:
    """The component that `AdamW` or `my_package.losses:MyLoss` names, of one of these kinds.

    Raises `ConfigError` with the nearest known name of that kind.
    """
    module, _, attribute = name.rpartition(":") if ":" in name else name.rpartition(".")
    known = catalog.components()
    if module or attribute in known:
        _import(module or known[attribute], name, path)
    found = [
        part
        for part in parts().values()
        if part.target.__name__ == attribute and (not module or part.target.__module__ == module)
    ]
    fitting = [part for part in found if any(issubclass(part.kind, kind) for kind in kinds)] or found
    if fitting:
        return fitting[-1]
    if module:
        message = f"{module} has no component {attribute!r} (a class with {attribute}Conf = config_for({attribute}))"
        raise ConfigError([Problem(path, message)])
    wanted = " or ".join(kind.__name__ for kind in kinds)
    raise ConfigError([Problem(path, f"no {wanted} is called {name!r}{nearest(name, _names_of(kinds))}")])


def _names_of(kinds: Sequence[type]) -> list[str]:
    """Names of components of a kind. Only an error asks for them: every module is imported to see what it has."""
    for module in set(catalog.components().values()):
        importlib.import_module(module)
    fitting = [part for part in parts().values() if any(issubclass(part.kind, kind) for kind in kinds)]
    return sorted(part.target.__name__ for part in fitting)


def _import(module: str, name: str, path: str) -> None:
    if not all(step.isidentifier() for step in module.split(".")):
        raise ConfigError([Problem(path, f"{name!r} names no class: want CLASS or package.module:CLASS")])
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a user's module raises is the user's to mend
        raise ConfigError([Problem(path, f"{name!r} cannot be imported: {failure(error)}")]) from error

"""Overrides in Hydra's grammar, applied to a typed config.

    loss.temperature=0.2            a value                 ~callbacks.2       remove an item of a list
    heads.projector.dims=[2048,128] a list                  ~loss.temperature  back to the default
    optimizer=AdamW                 a part, by its class    +callbacks=NaNGuard  append to a list
    loss=my_package.losses:MyLoss   a part of your own      lr=${optimizer.rate.lr} another field's value
    loss.temperature=0.1,0.2 seed=range(3)                  a sweep (with --multirun)

Outer fields are set before inner ones, so `optimizer.rate.lr=1e-3 optimizer=AdamW` means what it says; items are
removed last, so that the numbers in the other overrides stay what they were.
"""

import importlib
import inspect
from collections.abc import Sequence
from typing import Optional, TypeVar, cast

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from ssltyped.config import catalog
from ssltyped.config.component import ConfigError, Problem
from ssltyped.config.generate import REQUIRED, TARGET, Part, join, part_of, parts
from ssltyped.config.grammar import parse, quoted, written_value
from ssltyped.config.hints import failure, nearest, plain, shown
from ssltyped.config.kinds import (
    inner,
    names_of,
    part_kinds,
    takes_dict,
    takes_list,
    takes_none,
    takes_only_text,
    takes_text,
    takes_word,
)
from ssltyped.config.tree import Tree, from_tree, interpolated, to_tree

R = TypeVar("R")


def override(recipe: R, overrides: Sequence[str]) -> R:
    """The recipe with fields changed, checked as a whole; the given one is not changed.

    Raises `ConfigError` with every error at once: of the grammar, of paths, of names and of values.
    """
    tree = _changeable(to_tree(recipe))
    assert isinstance(tree, dict), "a recipe is a config"
    parsed, problems = parse(overrides)
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
        raise ConfigError(_outermost(problems))
    return result


def _outermost(problems: Sequence[Problem]) -> list[Problem]:
    """Each once, and without those of what lies below a path that is wrong itself."""
    wrong = {problem.path for problem in problems}
    return [
        problem
        for problem in dict.fromkeys(problems)
        if not any(problem.path.startswith(f"{path}.") for path in wrong if path)
    ]


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
    present, hint = _child(node, hint, last, path, new=item.is_add())
    value = _value(item, hint)
    where = item.key_or_group
    if item.is_add() and isinstance(node, dict) and (takes_list(hint) or takes_dict(hint)):
        node[last] = _added(present, value, hint, where)
    elif isinstance(node, list):
        node[int(last)] = _with_parts(value, hint, where)
    else:
        assert isinstance(node, dict), "_child has refused everything else"
        node[last] = _with_parts(value, hint, where)


def _value(item: Override, hint: object) -> object:
    """What is written, as the declared type reads it."""
    try:
        value: object = item.value()
    except (HydraException, ValueError, TypeError) as error:
        raise ConfigError([Problem(item.key_or_group, str(error))]) from error
    written = written_value(item)
    if isinstance(value, int | float) and takes_only_text(hint):
        return written  # name=2024_01 is no number
    if written.casefold() == "none" and takes_none(hint) and not takes_word(hint, written):
        as_text = f", or, for a text, {quoted(item.input_line or '')}" if takes_text(hint) else ""
        raise ConfigError([Problem(item.key_or_group, f"got {written}: write {item.key_or_group}=null{as_text}")])
    return value


def _added(present: object, value: object, hint: object, path: str) -> object:
    """A list (or dict) with one more item, or several; one that is not set yet begins with it."""
    if takes_dict(hint):
        if not isinstance(value, dict):
            raise ConfigError([Problem(path, f"holds its items by name: write +{path}.NAME={plain(value)}")])
        return {**(present if isinstance(present, dict) else {}), **cast("Tree", _with_parts(value, hint, path))}
    items = list(present) if isinstance(present, list | tuple) else []
    several = value if isinstance(value, list) and not takes_list(inner(hint)) else [value]
    return items + [_with_parts(item, inner(hint), join(path, len(items) + n)) for n, item in enumerate(several)]


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
        below = Optional[below] if step in part.inferred else below
        if default is inspect.Parameter.empty and takes_dict(below):
            return node.setdefault(step, {}), below
        return node.get(step, None if default is inspect.Parameter.empty else default), below
    if isinstance(node, list | tuple):
        if not step.isdigit() or int(step) >= len(node):
            raise ConfigError([Problem(where, f"no such item: {path} has {_items(node)}")])
        return node[int(step)], inner(hint, int(step))
    if isinstance(node, dict):
        below = inner(hint)
        if step not in node and not new and part_kinds(below):
            adds = f"; +{where}=CLASS adds one"
            raise ConfigError([Problem(where, f"{path} has no {step!r}{nearest(step, list(node))}{adds}")])
        return node.get(step), below
    given = "not set" if node is None else f"the value {shown(node)}"
    kinds = ", ".join(kind.__name__ for kind in part_kinds(hint))
    message = f"{path} is {given} and has no fields" + (f"; set it to a part first: {path}={kinds}" if kinds else "")
    raise ConfigError([Problem(where, message)])


def _items(node: Sequence[object]) -> str:
    """The items of a list by their numbers, parts by their class."""
    if not node:
        return "none yet"
    names = [f"{n} {part_of(item).name}" for n, item in enumerate(node) if isinstance(item, dict) and TARGET in item]
    return f"{len(node)}, counted from 0" + (f": {', '.join(names)}" if names else "")


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


def _with_parts(value: object, hint: object, path: str) -> object:
    """The value with names of classes, where a part is wanted, replaced by the part with its defaults."""
    if isinstance(value, list) and not takes_dict(hint):
        return [_with_parts(item, inner(hint), join(path, index)) for index, item in enumerate(value)]
    if isinstance(value, dict) and TARGET in value:
        raise ConfigError([Problem(path, f"{TARGET} cannot be set; replace the part by its class: {path}=CLASS")])
    if isinstance(value, dict) and takes_dict(hint):
        return {key: _with_parts(item, inner(hint), join(path, key)) for key, item in value.items()}
    kinds = part_kinds(hint)
    if not isinstance(value, str) or not kinds or takes_text(hint) or "${" in value or value == REQUIRED:
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
    raise ConfigError([Problem(path, f"no {wanted} is called {name!r}{nearest(name, names_of(kinds))}")])


def _import(module: str, name: str, path: str) -> None:
    if not all(step.isidentifier() for step in module.split(".")):
        raise ConfigError([Problem(path, f"{name!r} names no class: want CLASS or package.module:CLASS")])
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's module raises is the user's to mend
        raise ConfigError([Problem(path, f"{name!r} cannot be imported: {failure(error)}")]) from error

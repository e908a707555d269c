"""Configs and components as text: `--print`, `--help` and `--list`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

from ssltyped import catalog, config, types
from ssltyped.hints import describe
from ssltyped.types import Component

_KINDS: Sequence[type[Component]] = (
    types.Trunk,
    types.Head,
    types.Loss,
    types.ViewMaker,
    types.Transform,
    types.Collator,
    types.Source,
    types.Optimizer,
    types.Scheduler,
    types.Meter,
    types.Callback,
    Component,
)
"""The headings of `--list`, the one for all the rest last."""


def show(recipe: object) -> str:
    """A config as a readable tree: every field, parts by their class."""
    return "\n".join(_tree_lines(recipe, "", 0)) + "\n"


def _tree_lines(value: object, name: str, depth: int) -> Iterator[str]:
    start = "  " * depth + (f"{name}: " if name else "")
    if config.is_config(value):
        part = config.part_of(value)
        yield start + part.target.__name__
        for field in part.parameters:
            yield from _tree_lines(getattr(value, field), field, depth + 1)
    elif isinstance(value, list | tuple) and any(map(config.is_config, value)):
        yield start.rstrip()
        for index, item in enumerate(value):
            yield from _tree_lines(item, str(index), depth + 1)
    else:
        yield start + plain(value)


def plain(value: object) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(plain, value)) + "]"
    return config.part_of(value).target.__name__ if config.is_config(value) else str(value)


def show_fields(recipe: object) -> str:
    """Every field of a recipe: path, value, type, and a line of documentation."""
    rows = []
    for path, part_config in config.walk(recipe):
        part = config.part_of(part_config)
        docs = docs_of(part.kind)
        for name in part.parameters:
            value = getattr(part_config, name)
            nested = config.is_config(value) or (isinstance(value, list) and any(map(config.is_config, value)))
            shown = "" if nested else f"={plain(value)}"
            rows.append((config.join(path, name) + shown, describe(part.hints[name]), docs.get(name, "")))
    left = min(max(len(first) for first, _, _ in rows), 44)
    return "\n".join(f"  {first:<{left}}  {kind}\n  {'':<{left}}    {doc}" for first, kind, doc in rows) + "\n"


def docs_of(kind: type) -> dict[str, str]:
    """The documentation of a component's parameters, its own before that of its base classes."""
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        found.update(catalog.argument_docs(inspect.getdoc(cls) or "" if cls.__doc__ else ""))
    return found


def show_components() -> str:
    """Every component by kind, with its parameters: imports all of them."""
    by_kind: dict[str, list[str]] = {kind.__name__: [] for kind in _KINDS}
    for name in sorted(catalog.components()):
        part = component(name)
        kind = next(kind for kind in _KINDS if issubclass(part.kind, kind))
        summary = catalog.summary(inspect.getdoc(part.target) or "")
        by_kind[kind.__name__].append(f"  {name}({', '.join(part.parameters)})\n      {summary}")
    return "\n".join("\n".join([kind, *lines, ""]) for kind, lines in by_kind.items() if lines)


def component(name: str) -> config.Part:
    """A component of the library by its name; its module is imported."""
    path = f"{catalog.components()[name]}.{name}"
    config.import_targets({config.TARGET: path})
    return config.parts()[path]


def table(rows: Sequence[tuple[Sequence[str], Mapping[str, float]]]) -> str:
    """Metrics of several runs, a line a run, with the overrides that not all of them share."""
    shared = set.intersection(*(set(overrides) for overrides, _ in rows)) if len(rows) > 1 else set()
    names = list(dict.fromkeys(name for _, metrics in rows for name in metrics))
    cells = [["run", "overrides", *names]]
    for number, (overrides, metrics) in enumerate(rows):
        values = [f"{metrics[name]:.4g}" if name in metrics else "" for name in names]
        own = " ".join(text for text in overrides if text not in shared)
        cells.append([str(number), own, *values])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)

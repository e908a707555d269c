"""Configs and components as text: `--print`, `--help` and `--list`."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

from ssltyped.config import catalog
from ssltyped.config.component import Component
from ssltyped.config.generate import TARGET, Part, children, is_config, join, part_of, parts, walk
from ssltyped.config.hints import columns, describe, plain
from ssltyped.config.tree import import_targets

_REST = Component.__name__


def show(recipe: object) -> str:
    """A config as a readable tree: every field, parts by their class."""
    return "\n".join(_tree_lines(recipe, "", 0)) + "\n"


def _tree_lines(value: object, name: str, depth: int) -> Iterator[str]:
    start = "  " * depth + (f"{name}: " if name else "")
    if is_config(value) or _has_parts(value):
        yield (start + part_of(value).name if is_config(value) else start.rstrip())
        for step, item in children(value):
            yield from _tree_lines(item, step, depth + 1)
    else:
        yield start + plain(value)


def _has_parts(value: object) -> bool:
    """Whether it is a list or a dict of parts."""
    return not is_config(value) and any(is_config(item) for _, item in children(value))


def show_fields(recipe: object) -> str:
    """Every field of a recipe: path, value, type, and a line of documentation."""
    rows = []
    for path, part_config in walk(recipe):
        part = part_of(part_config)
        docs = docs_of(part.kind)
        for name, value in children(part_config):
            shown = "" if is_config(value) or _has_parts(value) else f"={plain(value)}"
            rows.append((join(path, name) + shown, describe(part.hints[name]), docs.get(name, "")))
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
    by_kind: dict[str, list[str]] = {}
    for name in sorted(catalog.components()):
        part = component(name)
        summary = catalog.summary(inspect.getdoc(part.target) or "")
        text = f"  {name}({', '.join(part.parameters)})\n      {summary}\n      {part.target.__module__}:{name}"
        by_kind.setdefault(_heading(part.kind), []).append(text)
    return "\n".join("\n".join([kind, *by_kind[kind], ""]) for kind in sorted(by_kind, key=lambda k: (k == _REST, k)))


def _heading(kind: type) -> str:
    """The abstract kind of part that a class is; one that is of no kind stands with the rest."""
    kinds = [base for base in kind.__mro__[1:] if issubclass(base, Component) and base is not Component]
    return kinds[-1].__name__ if kinds else _REST


def component(name: str) -> Part:
    """A component of the library by its name; its module is imported."""
    path = f"{catalog.components()[name]}.{name}"
    import_targets({TARGET: path})
    return parts()[path]


def table(rows: Sequence[tuple[Sequence[str], Optional[Mapping[str, float]]]]) -> str:
    """Metrics of several runs (None: it failed), a line a run, with the overrides that not all of them share."""
    shared = set.intersection(*(set(overrides) for overrides, _ in rows)) if len(rows) > 1 else set()
    names = list(dict.fromkeys(name for _, metrics in rows for name in metrics or {})) or [""]
    cells = [["run", "overrides", *names]]
    for number, (overrides, metrics) in enumerate(rows):
        values = ["failed", *[""] * (len(names) - 1)]
        if metrics is not None:
            values = [f"{metrics[name]:.4g}" if name in metrics else "" for name in names]
        cells.append([str(number), " ".join(text for text in overrides if text not in shared), *values])
    return "\n".join(columns(cells))

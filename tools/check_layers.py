"""Check that every module imports only from lower layers, that there is no cycle, and who may import hydra-zen.

    python tools/check_layers.py [--root FOLDER]

The numbers are those of the design. A module may import from smaller numbers, and within its own folder from its own
number. None of our modules is imported inside a function, and recipes are imported by no part of the library.
Prints a line a violation; the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = "ssltyped"
LAYERS: Mapping[str, int] = {
    "distributed": 0,
    "config": 1,
    "hashing": 0,
    "typing_plugin": 0,
    "types": 2,
    "trunks": 3,
    "heads": 3,
    "transforms": 3,
    "optimizers": 3,
    "schedulers": 3,
    "meters": 3,
    "model": 3,
    "losses": 4,
    "data": 4,
    "engine": 5,
    "evals": 5,
    "weights": 5,
    "experiment": 6,
    "tasks": 6,
    "resolution": 7,
    "launch": 8,
    "cli": 9,
    "interop": 9,
    "compare": 10,
    "run": 10,
    "__main__": 11,
    "": 11,
}
CONFIG_LIBRARIES = {"hydra_zen", "omegaconf"}


class Import(NamedTuple):
    """One imported module: dotted name, line, and whether it stands inside a function."""

    target: str
    line: int
    inside: bool


def module_name(path: Path, source: Path) -> str:
    """src/ssltyped/data/__init__.py -> ssltyped.data."""
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module, name: str, is_package: bool, known: set[str]) -> Iterator[Import]:
    """All imports; `from package import x` is the module package.x where there is one."""
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inner = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) in inner)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, name, is_package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(full if full in known else base, node.lineno, id(node) in inner)


def _absolute(node: ast.ImportFrom, name: str, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = name.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def unit(name: str) -> str:
    """The entry of the table: ssltyped.data.sources -> data."""
    return [*name.split("."), ""][1]


def folder(name: str, packages: set[str]) -> str:
    """Files of the library's top folder count as one folder, every subpackage as another."""
    top = f"{PACKAGE}.{unit(name)}"
    return top if top in packages else PACKAGE


def check(root: Path) -> list[str]:
    """All violations below `root`, one sentence each."""
    source = root / "src"
    files = {module_name(path, source): path for path in sorted((source / PACKAGE).rglob("*.py"))}
    packages = {name for name, path in files.items() if path.name == "__init__.py"}
    found: list[str] = []
    graph: dict[str, list[str]] = {}
    for name, path in files.items():
        where = path.relative_to(root)
        if unit(name) not in LAYERS:
            found.append(
                f"{where}: {unit(name)!r} is not in the table of layers; add it to the design and to this tool"
            )
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        wanted = list(imports(tree, name, name in packages, set(files)))
        found += [f"{where}:{item.line}: {problem}" for item in wanted for problem in _problems(name, item, packages)]
        graph[name] = sorted({item.target for item in wanted if item.target in files} - {name})
    return found + [f"import cycle: {' -> '.join(cycle)}" for cycle in cycles(graph)]


def _problems(name: str, item: Import, packages: set[str]) -> Iterator[str]:
    top = item.target.split(".")[0]
    if top in CONFIG_LIBRARIES and unit(name) != "config":
        yield f"imports {top}; only config/ may"
    if top == "recipes":
        yield "the library imports recipes; it is the other way round"
    if top != PACKAGE:
        return
    if item.inside:
        yield f"imports {item.target} inside a function; ours are imported at the top"
    mine, other = LAYERS[unit(name)], LAYERS.get(unit(item.target))
    if other is None:
        yield f"imports {item.target}, which is not in the table of layers"
    elif other > mine or (other == mine and folder(name, packages) != folder(item.target, packages)):
        yield f"{unit(name) or PACKAGE} (layer {mine}) imports {item.target} (layer {other})"


def cycles(graph: Mapping[str, list[str]]) -> list[list[str]]:
    """One cycle for each import that closes one in a depth-first walk."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in graph.get(name, []):
                visit(target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the repository")
    violations = check(parser.parse_args().root)
    print("\n".join(violations) or "layers: all imports point down")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

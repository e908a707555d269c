"""Check the sizes and habits that the design sets a budget for.

    python tools/check_budgets.py [--root FOLDER]

Lines of files and functions, a test for every source file, `type: ignore` with code and reason, `Any` only in
config/, no `except: pass`. Prints a line a violation; the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import ast
import re
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

MAX_FILE, MEDIAN_FILE = 400, 120
MAX_FUNCTION, MEDIAN_FUNCTION = 60, 12
MAX_IGNORES = 24
OWN_LIMITS: Mapping[str, int] = {
    "src/ssltyped/engine/trainer.py": 350,
    "src/ssltyped/engine/step.py": 80,
    "src/ssltyped/run.py": 90,
}
ANY_ALLOWED = "src/ssltyped/config/"
CHECKED = ("src", "recipes", "tools")
IGNORE = re.compile(r"#\s*type:\s*ignore")
GOOD_IGNORE = re.compile(r"#\s*type:\s*ignore\[[\w, -]+\]\s*#\s*\w")

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class File(NamedTuple):
    """A parsed source file; `path` is relative to the repository, with slashes."""

    path: str
    lines: list[str]
    tree: ast.Module

    @property
    def functions(self) -> list[Function]:
        return [node for node in ast.walk(self.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def read(root: Path, top: str) -> list[File]:
    """Every file with code in it below `root / top`."""
    files = []
    for path in sorted((root / top).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.strip():
            files.append(File(path.relative_to(root).as_posix(), text.splitlines(), ast.parse(text)))
    return files


def check(root: Path) -> list[str]:
    """All violations below `root`, one sentence each."""
    source = read(root, "src")
    files = [file for top in CHECKED for file in (source if top == "src" else read(root, top))]
    tests = {path.stem for path in (root / "tests").rglob("test_*.py")}
    found = [violation for file in files for violation in (*_sizes(file), *_habits(file))]
    found += [violation for file in source for violation in _untested(file, tests)]
    return [*found, *_medians(source), *_ignores(source)]


def length(function: Function) -> int:
    """Lines from `def` to the end, docstring included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _sizes(file: File) -> Iterator[str]:
    limit = OWN_LIMITS.get(file.path, MAX_FILE)
    if len(file.lines) > limit:
        yield f"{file.path}: {len(file.lines)} lines; at most {limit}"
    for function in file.functions:
        if length(function) > MAX_FUNCTION:
            yield f"{file.path}:{function.lineno}: {function.name} has {length(function)} lines; at most {MAX_FUNCTION}"


def _habits(file: File) -> Iterator[str]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ExceptHandler) and all(_is_nothing(statement) for statement in node.body):
            yield f"{file.path}:{node.lineno}: an exception is swallowed; handle it or let it pass"
        if not file.path.startswith(ANY_ALLOWED) and _is_any(node):
            yield f"{file.path}:{getattr(node, 'lineno', 0)}: Any; only config/ may"


def _is_nothing(statement: ast.stmt) -> bool:
    ellipsis = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass) or ellipsis


def _is_any(node: ast.AST) -> bool:
    """`from typing import Any` (under any name) or `typing.Any`."""
    if isinstance(node, ast.ImportFrom):
        return node.module in ("typing", "typing_extensions") and any(alias.name == "Any" for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr == "Any"


def _untested(file: File, tests: set[str]) -> Iterator[str]:
    path = Path(file.path)
    names = {f"test_{path.stem}", f"test_{path.parent.name}_{path.stem}"}
    if path.stem != "__init__" and not names & tests:
        yield f"{file.path}: has no test; one of {', '.join(sorted(names))} is expected below tests/"


def _medians(source: list[File]) -> Iterator[str]:
    files = [len(file.lines) for file in source]
    functions = [length(function) for file in source for function in file.functions]
    for kind, sizes, limit in (("file", files, MEDIAN_FILE), ("function", functions, MEDIAN_FUNCTION)):
        if sizes and statistics.median(sizes) > limit:
            yield f"src: the median {kind} has {statistics.median(sizes):g} lines; at most {limit}"


def _ignores(source: list[File]) -> Iterator[str]:
    lines = [
        (f"{file.path}:{number}", line)
        for file in source
        for number, line in enumerate(file.lines, start=1)
        if IGNORE.search(line)
    ]
    if len(lines) > MAX_IGNORES:
        yield f"src: {len(lines)} lines have `type: ignore`; at most {MAX_IGNORES}"
    for where, line in lines:
        if not GOOD_IGNORE.search(line):
            yield f"{where}: `type: ignore` needs a code and a reason: # type: ignore[code]  # why"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the repository")
    violations = check(parser.parse_args().root)
    print("\n".join(violations) or "budgets: all kept")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

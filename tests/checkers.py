"""The four type checkers, each run as a user runs it: what they report at which line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCES = ("src", ".", "stubs")


class Report(NamedTuple):
    """An error at a line of a file (relative to the root), by the checker's own code."""

    file: str
    line: int
    code: str


def _run(*command: str, **environment: str) -> str:
    own = {**os.environ, **environment}
    done = subprocess.run([*command], cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def _report(file: str, line: int, code: str) -> Report:
    return Report(Path(ROOT, file).relative_to(ROOT).as_posix(), line, code)


def mypy_lines(*files: Path) -> list[str]:
    """What mypy says by the project's own settings, which are strict and have its plugin; files may import each other.

    It finds what `make check` has found of the library: to read all of that again takes a minute and a half. So it may
    find what it said of the same file in another folder, too: files of others are told by their names.
    """
    folders = os.pathsep.join({str(file.parent) for file in files if ROOT not in file.parents})
    command = [sys.executable, "-m", "mypy", "--no-pretty", "--no-error-summary", *map(str, files)]
    return [re.sub(r"^/[^:]*/", "", line) for line in _run(*command, MYPYPATH=folders).splitlines()]


def revealed(file: Path) -> list[str]:
    """What mypy says of each `reveal_type` in a file, and its errors, in the order of the lines."""
    return [line for line in mypy_lines(file) if line.startswith(file.name) or "Revealed" in line]


def mypy(files: Sequence[Path]) -> list[Report]:
    lines = [line for line in mypy_lines(*files) if ": error: " in line]
    found = [re.match(r"^([^:]+):(\d+): error: .*  \[([\w-]+)\]$", line) for line in lines]
    assert None not in found, lines
    return [_report(m[1], int(m[2]), m[3]) for m in found if m]


def pyright(files: Sequence[Path]) -> list[Report]:
    flags = ["--pythonpath", sys.executable, "--outputjson", *map(str, files)]  # it finds src and stubs by itself
    told = json.loads(_run(sys.executable, "-m", "pyright", *flags))["generalDiagnostics"]
    errors = [one for one in told if one["severity"] == "error"]
    return [_report(one["file"], one["range"]["start"]["line"] + 1, one.get("rule", "")) for one in errors]


def ty(files: Sequence[Path]) -> list[Report]:
    paths = [flag for folder in SOURCES for flag in ("--extra-search-path", folder)]
    flags = ["--python", sys.prefix, "--output-format", "concise", *paths]
    out = _run(str(Path(sys.executable).with_name("ty")), "check", *flags, *map(str, files))
    found = re.findall(r"^([^:\n]+):(\d+):\d+: error\[([\w-]+)\]", out, re.MULTILINE)
    return [_report(file, int(line), code) for file, line, code in found]


def pyrefly(files: Sequence[Path]) -> list[Report]:
    paths = [flag for folder in SOURCES for flag in ("--search-path", folder)]
    flags = ["--preset", "default", "--python-interpreter-path", sys.executable, "--output-format", "json", *paths]
    out = _run(str(Path(sys.executable).with_name("pyrefly")), "check", *flags, *map(str, files))
    errors = [one for one in json.loads(out)["errors"] if one["severity"] == "error"]
    return [_report(one["path"], one["line"], one["name"]) for one in errors]


CHECKERS: Mapping[str, Callable[[Sequence[Path]], list[Report]]] = {
    "mypy": mypy,
    "pyright": pyright,
    "ty": ty,
    "pyrefly": pyrefly,
}

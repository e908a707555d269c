"""The four type checkers, each run as a user runs it: what they report at which line."""

from __future__ import annotations

import json
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


def _run(*command: str) -> str:
    done = subprocess.run([*command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def _report(file: str, line: int, code: str) -> Report:
    return Report(Path(ROOT, file).relative_to(ROOT).as_posix(), line, code)


def _mypy(files: Sequence[Path], cache: Path) -> list[str]:
    flags = ["--strict", "--no-pretty", "--no-error-summary", "--cache-dir", str(cache)]
    return _run(sys.executable, "-m", "mypy", *flags, *map(str, files)).splitlines()


def revealed(file: Path, cache: Path) -> list[str]:
    """What mypy says of each `reveal_type` in a file, and its errors, in the order of the lines."""
    return [line for line in _mypy([file], cache) if line.startswith(str(file)) or "Revealed" in line]


def mypy(files: Sequence[Path], cache: Path) -> list[Report]:
    """With --strict and the project's own settings, its plugin among them."""
    lines = [line for line in _mypy(files, cache) if ": error: " in line]
    found = [re.match(r"^([^:]+):(\d+): error: .*  \[([\w-]+)\]$", line) for line in lines]
    assert None not in found, lines
    return [_report(m[1], int(m[2]), m[3]) for m in found if m]


def pyright(files: Sequence[Path], cache: Path) -> list[Report]:
    flags = ["--pythonpath", sys.executable, "--outputjson", *map(str, files)]  # it finds src and stubs by itself
    told = json.loads(_run(sys.executable, "-m", "pyright", *flags))["generalDiagnostics"]
    errors = [one for one in told if one["severity"] == "error"]
    return [_report(one["file"], one["range"]["start"]["line"] + 1, one.get("rule", "")) for one in errors]


def ty(files: Sequence[Path], cache: Path) -> list[Report]:
    paths = [flag for folder in SOURCES for flag in ("--extra-search-path", folder)]
    flags = ["--python", sys.prefix, "--output-format", "concise", *paths]
    out = _run(str(Path(sys.executable).with_name("ty")), "check", *flags, *map(str, files))
    found = re.findall(r"^([^:\n]+):(\d+):\d+: error\[([\w-]+)\]", out, re.MULTILINE)
    return [_report(file, int(line), code) for file, line, code in found]


def pyrefly(files: Sequence[Path], cache: Path) -> list[Report]:
    paths = [flag for folder in SOURCES for flag in ("--search-path", folder)]
    flags = ["--preset", "default", "--python-interpreter-path", sys.executable, "--output-format", "json", *paths]
    out = _run(str(Path(sys.executable).with_name("pyrefly")), "check", *flags, *map(str, files))
    errors = [one for one in json.loads(out)["errors"] if one["severity"] == "error"]
    return [_report(one["path"], one["line"], one["name"]) for one in errors]


CHECKERS: Mapping[str, Callable[[Sequence[Path], Path], list[Report]]] = {
    "mypy": mypy,
    "pyright": pyright,
    "ty": ty,
    "pyrefly": pyrefly,
}

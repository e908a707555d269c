"""What mypy --strict must reject, line by line, and what it must accept; what it accepts also runs and is valid.

`typing/wrong/*.py`: a line that ends in `# E: code` must give exactly the errors of these codes, other lines none.
`typing/right/*.py`: no errors; they run, and their configs are valid.
"""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from ssltyped import config

ROOT = Path(__file__).parents[1]
WRONG = sorted((ROOT / "tests/typing/wrong").glob("*.py"))
RIGHT = sorted((ROOT / "tests/typing/right").glob("*.py"))
AT_LEAST = 60

_EXPECTED = re.compile(r"  # E: ([\w-]+(?:, [\w-]+)*)$")
_REPORTED = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .*  \[(?P<code>[\w-]+)\]$")


class Mistake(NamedTuple):
    file: str
    line: int
    code: str


def expected(files: list[Path]) -> Counter[Mistake]:
    return Counter(
        Mistake(file.relative_to(ROOT).as_posix(), number, code)
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if (found := _EXPECTED.search(line))
        for code in found[1].split(", ")
    )


def reported(files: list[Path], cache: Path) -> Counter[Mistake]:
    """The errors of one run of mypy with the project's own settings."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--no-error-summary", "--cache-dir", str(cache)]
    done = subprocess.run([*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    found = [_REPORTED.match(line) for line in lines]
    assert None not in found, lines
    return Counter(
        Mistake(Path(ROOT, m["file"]).relative_to(ROOT).as_posix(), int(m["line"]), m["code"]) for m in found if m
    )


def snippets(file: Path) -> int:
    """Definitions and assignments at the top of a module, and the statements in its functions."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return sum(isinstance(node, ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.ClassDef) for node in body)


def test_there_are_enough_of_both() -> None:
    assert len(expected(WRONG)) >= AT_LEAST
    assert sum(map(snippets, RIGHT)) >= AT_LEAST
    assert not expected(RIGHT)


def test_every_file_of_mistakes_says_which() -> None:
    assert {file.relative_to(ROOT).as_posix() for file in WRONG} == {mistake.file for mistake in expected(WRONG)}


def test_mypy_rejects_every_wrong_line_and_nothing_else(request: pytest.FixtureRequest) -> None:
    cache = request.config.cache
    assert cache is not None
    found = reported([*WRONG, *RIGHT], cache.mkdir("mypy"))
    wanted = expected(WRONG)
    assert found - wanted == Counter(), "errors at lines that are right"
    assert wanted - found == Counter(), "mistakes that pass"


@pytest.mark.parametrize("file", RIGHT, ids=lambda file: file.stem)
def test_what_the_type_checker_accepts_is_valid(file: Path) -> None:
    names = runpy.run_path(str(file), run_name=f"right_{file.stem}")
    configs = [value for value in names.values() if config.is_config(value)]
    assert configs
    for value in configs:
        checked = config.check(value)
        assert config.check(checked) == checked

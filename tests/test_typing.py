"""What type checkers must reject, line by line, and what they must accept; what they accept also runs and is valid.

`typing/wrong/*.py`: at a line that ends in `# E: code` mypy --strict gives exactly the errors of these codes, and the
others some error, but for those that are named as blind to it (`# E: code; not ty, pyrefly`); at other lines none does.
`typing/right/*.py`: no errors of any; they run, and their configs are valid.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkers import CHECKERS, ROOT, Report, mypy, revealed

from ssltyped import config
from ssltyped.config import catalog

WRONG = sorted((ROOT / "tests/typing/wrong").glob("*.py"))
RIGHT = sorted((ROOT / "tests/typing/right").glob("*.py"))
AT_LEAST = 60

_EXPECTED = re.compile(r"  # E: (?P<codes>[\w-]+(?:, [\w-]+)*)(?:; not (?P<blind>\w+(?:, \w+)*))?$")


def marked(files: list[Path]) -> Iterator[tuple[str, int, list[str], list[str]]]:
    """File, line, mypy's codes and the checkers that do not see it, of every mistake."""
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if found := _EXPECTED.search(line):
                blind = (found["blind"] or "").split(", ")
                yield file.relative_to(ROOT).as_posix(), number, found["codes"].split(", "), blind


def expected(files: list[Path]) -> Counter[Report]:
    return Counter(Report(file, line, code) for file, line, codes, _ in marked(files) for code in codes)


def snippets(file: Path) -> int:
    """Definitions and assignments at the top of a module, and the statements in its functions."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return sum(isinstance(node, ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.ClassDef) for node in body)


def test_there_are_enough_of_both() -> None:
    assert len(expected(WRONG)) >= AT_LEAST
    assert sum(map(snippets, RIGHT)) >= AT_LEAST
    assert not expected(RIGHT)


def test_every_file_of_mistakes_says_which() -> None:
    assert {file.relative_to(ROOT).as_posix() for file in WRONG} == {file for file, *_ in marked(WRONG)}


def test_mypy_rejects_every_wrong_line_and_nothing_else() -> None:
    found = Counter(mypy([*WRONG, *RIGHT]))
    wanted = expected(WRONG)
    assert found - wanted == Counter(), "errors at lines that are right"
    assert wanted - found == Counter(), "mistakes that pass"


@pytest.mark.parametrize(
    "name", ["pyright", pytest.param("ty", marks=pytest.mark.slow), pytest.param("pyrefly", marks=pytest.mark.slow)]
)
def test_the_others_reject_every_wrong_line_that_they_can_see_and_nothing_else(name: str) -> None:
    found = {(one.file, one.line) for one in CHECKERS[name]([*WRONG, *RIGHT])}
    mistakes = {(file, line): blind for file, line, _, blind in marked(WRONG)}
    assert not sorted(found - mistakes.keys()), "errors at lines that are right"
    assert sorted(mistakes.keys() - found) == [at for at, blind in mistakes.items() if name in blind]


def test_every_field_of_every_part_can_be_named_in_a_typed_copy(tmp_path: Path) -> None:
    """To mypy an attribute that a module does not declare is a tensor or a module: no value of the field fits."""
    for module in set(catalog.components().values()):
        importlib.import_module(module)
    classes = {path: one for path, one in config.parts().items() if inspect.isclass(one.target) and "ssltyped." in path}
    fields = [(path, name) for path, one in classes.items() for name in one.parameters]
    imports = [f"import {path.rpartition('.')[0]}" for path in classes]
    code = [f"def f{n}(part: {path}) -> None: reveal_type(part.{name})" for n, (path, name) in enumerate(fields)]
    (tmp_path / "fields.py").write_text("\n".join([*imports, *code]))
    found = [m[1] for line in revealed(tmp_path / "fields.py") if (m := re.search(r'type is "(.*)"', line))]
    assert len(found) == len(fields) > 500
    open_ended = re.compile(r"\.Tensor.*\.Module\b")
    undeclared = [".".join(one) for one, kind in zip(fields, found, strict=True) if open_ended.search(kind)]
    assert not undeclared


def test_the_readme_says_how_many_each_finds() -> None:
    mistakes = list(marked(WRONG))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in CHECKERS:
        seen = sum(name not in blind for *_, blind in mistakes)
        assert f"| {name} | {seen} of {len(mistakes)} |" in readme
    assert f": {sum('config-value' in codes for _, _, codes, _ in mistakes)} of them)" in readme


@pytest.mark.parametrize("file", RIGHT, ids=lambda file: file.stem)
def test_what_the_type_checker_accepts_is_valid(file: Path) -> None:
    names = runpy.run_path(str(file), run_name=f"right_{file.stem}")
    configs = [value for value in names.values() if config.is_config(value)]
    assert configs
    for value in configs:
        checked = config.check(value)
        assert config.check(checked) == checked

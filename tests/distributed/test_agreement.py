"""All ranks take what the first one has got, also if it is an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ranks import run_on_ranks

from ssltyped import distributed
from ssltyped.config import ConfigError
from ssltyped.types import Problem


@contextmanager
def noted(folder: Path, fails: bool) -> Iterator[Path]:
    (folder / f"in{distributed.rank()}").touch()
    if fails:
        raise ConfigError([Problem("name", "is taken")])
    yield folder
    (folder / f"out{distributed.rank()}").touch()


def entered(folder: Path, fails: bool) -> object:
    try:
        with ExitStack() as held:
            return distributed.first_rank_does(lambda: held.enter_context(noted(folder, fails)), ConfigError)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]


def test_the_first_enters_and_leaves_for_all(tmp_path: Path) -> None:
    assert run_on_ranks(entered, 2, tmp_path, False) == [tmp_path, tmp_path]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in0", "out0"]
    assert entered(tmp_path, False) == tmp_path


def refused() -> str:
    try:
        distributed.first_rank_does(lambda: int("no number"), ValueError)
    except ValueError as error:
        return str(error)
    return ""


def test_its_error_is_that_of_all(tmp_path: Path) -> None:
    (told,) = set(run_on_ranks(refused, 2))
    assert told == refused()
    assert "no number" in told
    assert run_on_ranks(entered, 2, tmp_path, True) == [["name: is taken"], ["name: is taken"]]
    assert entered(tmp_path, True) == ["name: is taken"]

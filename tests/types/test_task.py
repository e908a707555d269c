"""A recipe that is no training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

import pytest

from ssltyped import build
from ssltyped.config import config_for
from ssltyped.types import Task


class Count(Task):
    """Counts to n."""

    def __init__(self, *, n: int, output: Path = Path("runs"), name: Optional[str] = None) -> None:
        self.n, self.output, self.name = n, output, name

    def run(self, folder: Path) -> Mapping[str, float]:
        (folder / "count.txt").write_text(str(self.n))
        return {"count": self.n}

    def plan(self) -> Iterator[str]:
        yield f"counts to {self.n}"


CountConf = config_for(Count)


def test_it_is_a_component_with_a_folder(tmp_path: Path) -> None:
    task = build(CountConf(n=3, output=tmp_path))
    assert task.run(task.output) == {"count": 3}
    assert list(task.plan()) == ["counts to 3"]
    assert (tmp_path / "count.txt").read_text() == "3"


def test_what_does_nothing_is_none() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Task()  # type: ignore[abstract]

"""A recipe that is no training."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_tasks import CountConf

from ssltyped import build
from ssltyped.engine.parallel import DistributedConf
from ssltyped.types import Task


def test_it_is_a_component_with_a_folder(tmp_path: Path) -> None:
    task = build(CountConf(n=3, double=6, distributed=DistributedConf(sync_bn_group=1), output=tmp_path))
    assert task.run(task.output) == {"count": 3, "ranks": 1}
    assert list(task.plan()) == ["counts to 3"]
    assert (tmp_path / "starts.txt").read_text() == "started\n"
    several = Task.facts(CountConf(distributed=DistributedConf(num_procs=3, nodes=2)))
    assert (several.world_size, several.ranks_per_node) == (6, 3)


def test_what_does_nothing_is_none() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Task()  # type: ignore[abstract]


def test_a_misspelt_hook_is_refused() -> None:
    with pytest.raises(TypeError, match="did you mean 'facts'"):

        class Wrong(Task):
            def factss(self) -> None: ...

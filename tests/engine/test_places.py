"""What is said where the processes that a recipe wants are not here (tests/test_launch.py has it for a training)."""

from __future__ import annotations

import pytest
from own_tasks import CountConf

from ssltyped import build
from ssltyped.engine.parallel import DistributedConf, Place
from ssltyped.engine.places import defined_in_main, fitting, misfit


def test_what_fits_and_what_does_not() -> None:
    assert misfit(build(DistributedConf(sync_bn_group=1)), None) == []
    one = Place(rank=0, world_size=2, local_rank=0, local_world_size=2)
    assert misfit(build(DistributedConf(sync_bn_group=1, num_procs=2)), one) == []
    (problem,) = misfit(build(DistributedConf(sync_bn_group=1, num_procs=4)), one)
    assert "torchrun started 2 processes" in problem.message
    assert problem.message.endswith("set distributed.nodes=1 distributed.num_procs=2")
    *_, last = misfit(build(DistributedConf(sync_bn_group=1, nodes=3)), None)
    assert last.message == fitting(1)
    assert misfit(build(DistributedConf(sync_bn_group=1, nodes=3)), None, lambda procs: f"{procs}!")[-1].message == "1!"


def test_what_other_processes_cannot_import(monkeypatch: pytest.MonkeyPatch) -> None:
    task = CountConf()
    assert not list(defined_in_main(task, [""]))
    monkeypatch.setattr(type(task), "__module__", "__main__")
    (problem,) = defined_in_main(task, [""])
    assert "defined in __main__" in problem.message
    assert not list(defined_in_main(task, ["distributed."])), "not below"
    assert not list(defined_in_main(task, []))

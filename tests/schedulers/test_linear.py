"""Linear: the warmup that is inferred, on one node and on several."""

from typing import Optional

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.schedulers.linear import Linear, LinearConf


@pytest.mark.parametrize("nodes, base, start", [(1, 0.6, 0.0), (8, 0.6, 0.6), (1, None, 0.0), (8, None, None)])
def test_a_warmup_is_inferred(nodes: int, base: Optional[float], start: Optional[float]) -> None:
    found = {i.field: i.value for i in Linear.infer(LinearConf(), facts(nodes=nodes, base_lr_of_one_node=base))}
    assert found == ({"end": 4.8} if start is None else {"end": 4.8, "start": start})


def test_given_ends_are_left_alone() -> None:
    assert not inferred(LinearConf(start=0.1, end=0.2), facts())
    assert not list(Linear.infer(LinearConf(), facts(lr=None)))


def test_without_ends() -> None:
    assert lacking(LinearConf(), facts(lr=None)) == ["end", "start"]
    (problem,) = Linear.problems(LinearConf(end=4.8), facts(nodes=8, base_lr_of_one_node=None))
    assert problem.path == "start"
    assert "follows from the optimizer's base_lr, which is not set" in problem.message
    assert not list(Linear.problems(LinearConf(start=0.0, end=0.0), facts()))
    with pytest.raises(ValueError, match="Linear cannot be built without end"):
        Linear(start=0.0)
    with pytest.raises(ValueError, match="Linear cannot be built without end and start"):
        Linear()


def test_line() -> None:
    schedule = Linear(start=1.0, end=3.0)
    assert [schedule(p) for p in (0.0, 0.25, 1.0)] == [1.0, 1.5, 3.0]

"""Cosine: its ends, and what is inferred."""

import pytest
from scheduler_facts import facts

from ssltyped.schedulers.cosine import Cosine, CosineConf
from ssltyped.types import Inference, Update


def test_ends_and_middle() -> None:
    schedule = Cosine(start=3.0, end=1.0)
    assert [schedule(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([3.0, 2.0, 1.0], abs=1e-15)
    assert schedule.update is Update.STEP


def test_start_is_the_learning_rate_unless_given() -> None:
    assert list(Cosine.infer(CosineConf(), facts())) == [Inference("start", 4.8, "the learning rate of the optimizer")]
    assert not list(Cosine.infer(CosineConf(start=0.0), facts()))
    assert not list(Cosine.infer(CosineConf(), facts(lr=None)))


def test_without_start() -> None:
    assert [problem.path for problem in Cosine.problems(CosineConf(), facts())] == ["start"]
    assert not list(Cosine.problems(CosineConf(start=1.0), facts()))
    with pytest.raises(ValueError, match="start is None"):
        Cosine()(0.5)

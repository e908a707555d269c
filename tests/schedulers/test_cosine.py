"""Cosine: its ends, and what is inferred."""

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.schedulers.cosine import Cosine, CosineConf, wave
from ssltyped.types import Inference, Update


def test_ends_and_middle() -> None:
    schedule = Cosine(start=3.0, end=1.0)
    assert [schedule(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([3.0, 2.0, 1.0], abs=1e-15)
    assert schedule.update is Update.STEP


def test_start_is_the_learning_rate_unless_given() -> None:
    (inference,) = Cosine.infer(CosineConf(), facts())
    assert inference == Inference("start", 4.8, "the learning rate of the optimizer", default=True)
    assert not inferred(CosineConf(start=0.0), facts())
    assert not list(Cosine.infer(CosineConf(), facts(lr=None)))


def test_without_start() -> None:
    assert lacking(CosineConf(), facts(lr=None)) == ["start"]
    with pytest.raises(ValueError, match="Cosine cannot be built without start"):
        Cosine()


def test_a_wave_falls_and_rises() -> None:
    assert [wave(3.0, 1.0, t) for t in (0.0, 1.0, 1.5, 2.0)] == pytest.approx([3.0, 1.0, 2.0, 3.0])

"""Composite: boundaries, intervals, and what is refused."""

from typing import Optional

import pytest
from scheduler_facts import facts

from ssltyped.config import config_for
from ssltyped.schedulers.composite import Composite, CompositeConf, Interval
from ssltyped.schedulers.cosine import Cosine
from ssltyped.schedulers.curves import Constant, ConstantConf, Linear, LinearConf
from ssltyped.types import Scheduler, Update


class Echo(Scheduler):
    """Gives back the progress that it sees."""

    def __call__(self, progress: float) -> float:
        return progress


def test_parts_see_their_own_progress_or_that_of_the_whole() -> None:
    parts: list[Scheduler] = [Echo(), Echo(), Echo()]
    rescaled = Composite(schedulers=parts, lengths=[0.2, 0.3, 0.5])
    assert [rescaled(p) for p in (0.0, 0.1, 0.2, 0.35, 0.5, 0.75)] == pytest.approx([0, 0.5, 0, 0.5, 0, 0.5])
    mixed = Composite(
        schedulers=parts, lengths=[0.2, 0.3, 0.5], intervals=[Interval.RESCALED, Interval.FIXED, Interval.RESCALED]
    )
    assert [mixed(p) for p in (0.1, 0.2, 0.35, 0.75)] == pytest.approx([0.5, 0.2, 0.35, 0.5])


def test_no_part_sees_progress_outside_its_curve() -> None:
    schedule = Composite(schedulers=[Echo(), Echo(), Echo()], lengths=[0.1, 0.2, 0.7])
    points = [i / 1000 + shift for i in range(1000) for shift in (0.0, 1e-7, -1e-7) if i + shift >= 0]
    assert all(0 <= schedule(p) <= 1 for p in points)


@pytest.mark.parametrize("steps", [10, 30, 70, 900])
def test_a_part_starts_at_its_first_step(steps: int) -> None:
    """A boundary that is a step belongs to the next part, whatever the rounding."""
    for first in range(1, steps):
        lengths = [first / steps, (steps - first) / steps]
        schedule = Composite(schedulers=[Constant(value=0.0), Constant(value=1.0)], lengths=lengths)
        assert [schedule((first - 1) / steps), schedule(first / steps)] == [0.0, 1.0]


def test_what_does_not_fit_is_refused_when_built() -> None:
    with pytest.raises(ValueError, match="1 lengths for 2 schedulers"):
        Composite(schedulers=[Echo(), Echo()], lengths=[1.0])


def test_warmup_joins_the_decay() -> None:
    schedule = Composite(schedulers=[Linear(start=0.0, end=4.8), Cosine(start=4.8)], lengths=[0.1, 0.9])
    assert schedule(0.1) == pytest.approx(4.8)
    assert schedule(0.1 - 1e-3) == pytest.approx(4.8, rel=0.011)


@pytest.mark.parametrize(
    "config, paths",
    [
        (CompositeConf(schedulers=[ConstantConf()] * 2, lengths=[1.0]), ["lengths"]),
        (CompositeConf(schedulers=[ConstantConf()] * 2, lengths=[0.5, 0.4]), ["lengths"]),
        (CompositeConf(schedulers=[ConstantConf()], lengths=[0.9999]), []),
        (CompositeConf(schedulers=[ConstantConf()], lengths=[1.0], intervals=[]), ["intervals"]),
    ],
)
def test_problems(config: Composite, paths: list[str]) -> None:
    assert [problem.path for problem in Composite.problems(config, facts())] == paths


class Hourly(Scheduler):
    """One whose own default is another one.

    Args:
        update: how often it changes.
    """

    def __init__(self, *, update: Update = Update.EPOCH) -> None:
        self.update = update

    def __call__(self, progress: float) -> float:
        return 1.0


HourlyConf = config_for(Hourly)


@pytest.mark.parametrize(
    ("part", "whole", "wrong"),
    [
        (LinearConf(update=Update.EPOCH), None, True),
        (LinearConf(update=Update.STEP), Update.EPOCH, True),
        (ConstantConf(update=Update.EPOCH), Update.STEP, True),
        (LinearConf(update=Update.EPOCH), Update.EPOCH, False),
        (LinearConf(update=Update.STEP), None, False),
        (LinearConf(), Update.EPOCH, False),
        (HourlyConf(), Update.STEP, False),
    ],
)
def test_only_the_whole_says_how_often_it_changes(part: Scheduler, whole: Optional[Update], wrong: bool) -> None:
    inner = CompositeConf(schedulers=[part, ConstantConf()], lengths=[0.5, 0.5], update=whole)
    found = [str(problem) for problem in Composite.problems(inner, facts())]
    assert len(found) == wrong
    for text in found:
        assert text.startswith("schedulers.0.update: got ")
        assert "leave it out (null), or set it for the whole" in text


def test_what_is_left_out_is_usual() -> None:
    assert Linear(start=0.0, end=1.0).update is Update.STEP
    assert Constant(value=1.0).update is Update.EPOCH
    assert Composite(schedulers=[Echo()], lengths=[1.0]).update is Update.STEP
    assert Composite(schedulers=[Echo()], lengths=[1.0], update=Update.EPOCH).update is Update.EPOCH

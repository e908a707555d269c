"""Composite: boundaries, intervals, and what is refused."""

import pytest
from scheduler_facts import facts

from ssltyped.schedulers.composite import Composite, CompositeConf, Interval
from ssltyped.schedulers.cosine import Cosine
from ssltyped.schedulers.curves import Constant, ConstantConf, Linear
from ssltyped.types import Scheduler


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

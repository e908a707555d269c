"""When a figure is an alarm: beyond its limit for long enough, once a run, and over a restart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from facts import FACTS

from ssltyped.engine.alarms import Action, Alarm, Alarms, Watch, WatchConf
from ssltyped.engine.figures import Figure

STD = Figure.EMBEDDING_STD


def told(values: Sequence[float], figure: Figure = STD, watches: Sequence[Watch] = (), steps: int = 100) -> list[int]:
    """At which look there is an alarm."""
    alarms = Alarms(watches, patience=3)
    return [n for n, value in enumerate(values) if alarms.look({figure: value}, 10 * (n + 1), steps)]


@pytest.mark.parametrize(
    ("values", "looks"),
    [
        ([0.6] * 9, []),
        ([0.6, 0.01, 0.01, 0.01, 0.01, 0.01], [3]),
        ([0.01, 0.01, 0.6, 0.01, 0.01, 0.6], []),
        ([0.01, 0.01, math.nan, 0.01, 0.01], []),
        ([0.01] * 3 + [0.6] + [0.01] * 9, [2]),
    ],
)
def test_three_looks_on_end_below_the_limit_are_an_alarm_once(values: list[float], looks: list[int]) -> None:
    assert told(values) == looks


def test_a_limit_above() -> None:
    assert told([0.01, 0.5, 0.5, 0.5], Figure.SAME_VIEWS) == [3]
    assert told([0.01, 0.5, 0.01], Figure.UPDATE_SIZE) == [1], "one such step is one too many"


def test_the_loss_must_stay_for_a_share_of_the_run() -> None:
    assert told([0.0] * 20, Figure.LOSS_MARGIN, steps=600) == [12], "120 of 600 steps"
    assert told([0.0] * 20, Figure.LOSS_MARGIN, steps=50) == [9], "of a short run, ten looks: some start near it"


def test_a_policy_of_the_users() -> None:
    assert told([0.3] * 4, watches=[Watch(figure=STD, lowest=0.4)]) == [2]
    assert told([0.01] * 4, watches=[Watch(figure=STD, highest=0.4)]) == [], "of its own limits it has none then"
    assert told([0.0] * 4, watches=[Watch(figure=STD, action=Action.LOG)]) == []


def test_what_is_told() -> None:
    alarms = Alarms([Watch(figure=STD, action=Action.STOP)], patience=1)
    (alarm,) = alarms.look({STD: 0.01234, Figure.FEATURE_STD: 0.5}, step=40, steps=100)
    assert alarm.action is Action.STOP
    assert alarm.text.startswith("embedding_std is 0.0123, below 0.05, from step 40 to 40: all images get nearly the")
    assert "a target that takes gradient" in alarm.text
    assert alarm.text.endswith("of length 1 (Chen and He 2021, section 4.1)")


def test_the_remedy_of_the_method_is_told_for_its_loss() -> None:
    (alarm,) = Alarms([], patience=1).look({Figure.LOSS_EXCESS: 2.0, STD: 0.5}, 5, 10, remedy="do less")
    assert alarm == Alarm(
        Action.WARN,
        "loss_excess is 2, above 0, from step 5 to 5: do less. It is how far the loss is outside of what its method "
        "can give",
    )


def test_it_goes_on_after_a_restart() -> None:
    first, second = Alarms([], patience=3), Alarms([], patience=3)
    for step in (10, 20):
        assert not first.look({STD: 0.0, Figure.UNIFORMITY: -3.0}, step, 100)
    second.load_state_dict(first.state_dict())
    (alarm,) = second.look({STD: 0.0}, 30, 100)
    assert "from step 10 to 30" in alarm.text
    first.load_state_dict(second.state_dict())
    assert not first.look({STD: 0.0}, 40, 100), "it is told"


@pytest.mark.parametrize(
    ("watch", "problem"),
    [
        (WatchConf(figure=STD, action=Action.LOG, lowest=1), "action: logs, and heeds no limit: leave lowest and"),
        (WatchConf(figure=Figure.ALIGNMENT), "lowest: alignment has no limit of its own: give lowest or highest"),
        (WatchConf(figure=STD, lowest=2, highest=1), "lowest: got 2, which is not below highest=1"),
    ],
)
def test_what_a_policy_cannot_be(watch: Watch, problem: str) -> None:
    (found,) = Watch.problems(watch, FACTS)
    assert str(found).startswith(problem)
    assert not list(Watch.problems(WatchConf(figure=STD, action=Action.STOP), FACTS))

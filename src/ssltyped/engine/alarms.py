"""When a figure is an alarm, and what is done then."""

import math
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple, Optional, Self

from ssltyped.config import config_for
from ssltyped.engine.figures import ABOUT, Figure
from ssltyped.types import Component, Facts, Problem


class Action(Enum):
    """What comes of a figure beyond its limit: it is only logged, it is said once, or the run stops."""

    LOG = "log"
    WARN = "warn"
    STOP = "stop"


class Watch(Component):
    """The policy for one figure.

    Args:
        figure: which.
        action: what is done when it has stayed beyond a limit.
        lowest: the limit below; null with highest null: the figure's own limits.
        highest: the limit above.
    """

    def __init__(
        self,
        *,
        figure: Figure,
        action: Action = Action.WARN,
        lowest: Optional[float] = None,
        highest: Optional[float] = None,
    ) -> None:
        self.figure, self.action, self.lowest, self.highest = figure, action, lowest, highest

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        own, given = ABOUT[config.figure], (config.lowest, config.highest) != (None, None)
        if config.action is Action.LOG and given:
            yield Problem("action", "logs, and heeds no limit: leave lowest and highest out, or warn or stop")
        if config.action is not Action.LOG and not given and (own.lowest, own.highest) == (None, None):
            yield Problem("lowest", f"{config.figure.value} has no limit of its own: give lowest or highest")
        if config.lowest is not None and config.highest is not None and config.lowest >= config.highest:
            yield Problem("lowest", f"got {config.lowest:g}, which is not below highest={config.highest:g}")

    @property
    def limits(self) -> tuple[Optional[float], Optional[float]]:
        """Below and above."""
        if (self.lowest, self.highest) == (None, None):
            return ABOUT[self.figure].lowest, ABOUT[self.figure].highest
        return self.lowest, self.highest

    def passed(self, value: float) -> str:
        """Which limit a value is beyond, in words; empty: none, as for nan, or none is heeded."""
        if self.action is Action.LOG:
            return ""
        lowest, highest = self.limits
        if lowest is not None and value < lowest:
            return f"below {lowest:g}"
        return f"above {highest:g}" if highest is not None and value > highest else ""


class Alarm(NamedTuple):
    """A figure that has stayed beyond its limit."""

    action: Action
    text: str


class Alarms:
    """Follows figures from look to look: one that is beyond its limit in `patience` looks on end is an alarm.

    A figure is one alarm a run.

    Args:
        watches: policies that differ from the usual one, a warning at the figure's own limits.
        patience: looks.
    """

    def __init__(self, watches: Iterable[Watch], patience: int) -> None:
        own = {watch.figure: watch for watch in watches}
        self._policies = {figure: own.get(figure, Watch(figure=figure)) for figure in Figure}
        self._patience = patience
        self._since: dict[str, list[int]] = {}
        self._told: set[str] = set()

    def look(self, values: Mapping[Figure, float], step: int, steps: int, remedy: str = "") -> list[Alarm]:
        """What is new after this step of so many; `remedy` is the method's, for a loss out of its range."""
        found = []
        for figure, policy in self._policies.items():
            passed = policy.passed(values.get(figure, math.nan))
            if not passed:
                self._since.pop(figure.value, None)
                continue
            since, looks = self._since.get(figure.value, [step, 0])
            looks, about = looks + 1, ABOUT[figure]
            self._since[figure.value] = [since, looks]
            long = looks >= (about.looks or self._patience) and step - since >= about.share * steps
            if long and figure.value not in self._told:
                self._told.add(figure.value)
                causes = remedy if remedy and figure is Figure.LOSS_EXCESS else about.causes
                where = f"{figure.value} is {values[figure]:.3g}, {passed}, from step {since} to {step}"
                found.append(Alarm(policy.action, f"{where}: {causes}. It is {about.what}"))
        return found

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint: since which step each figure is beyond its limit, in how many looks; what was told."""
        return {"since": dict(self._since), "told": sorted(self._told)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over what `state_dict` gave."""
        since, told = state["since"], state["told"]
        assert isinstance(since, dict)
        assert isinstance(told, list)
        self._since, self._told = dict(since), set(told)


WatchConf = config_for(Watch)

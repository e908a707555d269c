"""Schedules in a run: values that no rate can have, epochs without a rate, rates that never fall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import pytest
from tiny import tiny

from ssltyped.config import ConfigError, config_for, override
from ssltyped.optimizers.decay import DecayConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.schedules import wrong_value
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.resolution import resolve_experiment
from ssltyped.schedulers.composite import CompositeConf
from ssltyped.schedulers.cosine import CosineConf, CosineWarmRestartsConf, Wave
from ssltyped.schedulers.curves import ConstantConf, LinearConf
from ssltyped.schedulers.steps import PiecewiseConstantConf
from ssltyped.types import Optimizer, Scheduler, Update


class Own(Scheduler):
    """A value at the start, and another one from the middle on.

    Args:
        late: the other one, in words.
    """

    def __init__(self, *, late: str) -> None:
        self.late = late

    def __call__(self, progress: float) -> float:
        if progress < 0.5:
            return 0.05
        return "much" if self.late == "much" else float(self.late)  # type: ignore[return-value]  # the mistake


class Failing(Scheduler):
    """1 / (0.25 - progress)."""

    def __call__(self, progress: float) -> float:
        return 0.05 / (0.25 - progress) * 0


OwnConf, FailingConf = config_for(Own), config_for(Failing)


def refusal(schedule: Scheduler, optimizer: Optional[Optimizer] = None, overrides: Sequence[str] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_experiment(override(tiny(schedule=schedule, optimizer=optimizer), overrides))
    return str(caught.value)


def warned(schedule: Scheduler) -> list[str]:
    return [str(warning) for warning in resolve_experiment(tiny(schedule=schedule, epochs=10)).warnings]


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (OwnConf(late="nan"), "schedule: gives nan at progress 0.5: every value must be a number, finite"),
        (OwnConf(late="inf"), "schedule: gives inf at progress 0.5"),
        (OwnConf(late="-0.01"), "schedule: gives -0.01 at progress 0.5"),
        (OwnConf(late="much"), "schedule: gives 'much' at progress 0.5"),
        (FailingConf(), "schedule: fails at progress 0.25: ZeroDivisionError: float division by zero"),
        (LinearConf(start=0.05, end=-0.05), "schedule: gives -5e-05 at progress 0.5005"),
    ],
)
def test_values_that_no_learning_rate_can_have(schedule: Scheduler, says: str) -> None:
    assert says in refusal(schedule)


def test_values_that_no_weight_decay_can_have() -> None:
    decay = DecayConf(schedule=OwnConf(late="nan"))
    optimizer = SGDConf(rate=RateConf(lr=0.05), weight_decay=0.05, decay=decay)
    assert "optimizer.decay.schedule: gives nan at progress 0.5" in refusal(CosineConf(), optimizer)


def test_every_value_of_the_usual_schedules_is_right() -> None:
    assert not wrong_value(Own(late="0"))


WARMUP = CompositeConf(schedulers=[LinearConf(), CosineConf()], lengths=[0.5, 0.5])


def test_a_warmup_from_nothing_that_changes_by_epochs_is_refused() -> None:
    resolve_experiment(tiny(schedule=WARMUP))
    wrong = refusal(WARMUP, overrides=["schedule.update=epoch"])
    assert "schedule: is 0 for the whole of the first epoch, since it changes by epochs: let it start above 0" in wrong
    resolve_experiment(override(tiny(schedule=WARMUP), ["schedule.update=epoch", "schedule.schedulers.0.start=0.01"]))


def test_a_part_that_changes_otherwise_than_the_whole_is_refused() -> None:
    wrong = refusal(WARMUP, overrides=["schedule.schedulers.1.update=epoch"])
    assert "schedule.schedulers.1.update: got epoch, which has no effect on a part of a whole that" in wrong


def test_adaptive_full_waves_run() -> None:
    waves = CosineWarmRestartsConf(interval=0.25, wave=Wave.FULL, adaptive=True)
    resolve_experiment(tiny(schedule=waves))


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (CosineConf(start=0.01, end=0.05), "schedule: rises to the end of the run, where it is 0.05: most fall"),
        (PiecewiseConstantConf(values=[0.05, 0.0]), "schedule: is 0 for 5 whole epochs, the first of which is epoch 6"),
        (CosineConf(), ""),
        (ConstantConf(), ""),
        (CompositeConf(schedulers=[LinearConf(), ConstantConf()], lengths=[0.2, 0.8]), ""),
        (CosineConf(update=Update.EPOCH), ""),
    ],
)
def test_what_may_be_unwise(schedule: Scheduler, says: str) -> None:
    found = warned(schedule)
    assert [text.startswith(says) for text in found] == ([True] if says else [])

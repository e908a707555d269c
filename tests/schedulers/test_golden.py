"""Recorded curves of all schedules, at 101 points."""

import math
from dataclasses import dataclass

import pytest
from golden_cases import load_cases, load_tensors

from ssltyped.schedulers.composite import Composite, Interval
from ssltyped.schedulers.cosine import Cosine
from ssltyped.schedulers.curves import Constant, Linear
from ssltyped.schedulers.steps import MultiStep
from ssltyped.types import Scheduler, Update


@dataclass
class Options:
    name: str
    value: float = 0.0
    start_value: float = 0.0
    end_value: float = 0.0
    values: list[float] | None = None
    milestones: list[int] | None = None
    num_epochs: int | None = None
    schedulers: list["Options"] | None = None
    lengths: list[float] | None = None
    interval_scaling: list[str] | None = None
    update_interval: Update | None = None


@dataclass
class Case:
    id: str
    params: Options
    update_interval: Update


def equally_spaced(options: Options) -> list[int]:
    """Where the recorded one has no milestones."""
    assert options.values is not None
    assert options.num_epochs is not None
    stride = math.ceil(options.num_epochs / len(options.values))
    return [stride * (i + 1) for i in range(len(options.values) - 1)]


def build(options: Options) -> Scheduler:
    match options.name:
        case "constant":
            return Constant(value=options.value)
        case "cosine":
            return Cosine(start=options.start_value, end=options.end_value)
        case "linear":
            return Linear(start=options.start_value, end=options.end_value)
        case "multistep":
            assert options.values is not None
            assert options.num_epochs is not None
            milestones = options.milestones or equally_spaced(options)
            update = options.update_interval or Update.EPOCH
            return MultiStep(values=options.values, milestones=milestones, epochs=options.num_epochs, update=update)
        case "composite":
            return Composite(
                schedulers=[build(part) for part in options.schedulers or []],
                lengths=options.lengths or [],
                intervals=[Interval(name) for name in options.interval_scaling or []],
                update=options.update_interval or Update.STEP,
            )
    raise AssertionError(options.name)


@pytest.mark.parametrize("case", load_cases("schedulers", Case), ids=lambda case: case.id)
def test_values_are_those_recorded(case: Case) -> None:
    golden = load_tensors("schedulers")
    schedule = build(case.params)
    points: list[float] = golden[f"{case.id}/in/where"].tolist()
    assert len(points) == 101
    want: list[float] = golden[f"{case.id}/out/values"].tolist()
    assert [schedule(point) for point in points] == pytest.approx(want, rel=1e-9, abs=1e-12)
    assert schedule.update is case.update_interval

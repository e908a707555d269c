"""MultiStep: what is inferred, exact epochs, what is refused; PiecewiseConstant and Staircase: equal shares."""

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.config.resolve import resolve
from ssltyped.schedulers.base import part_at
from ssltyped.schedulers.steps import MultiStep, MultiStepConf, PiecewiseConstant, Staircase, StaircaseConf
from ssltyped.types import Update


def test_values_and_epochs_are_inferred() -> None:
    config = MultiStepConf(milestones=[30, 60], gamma=0.5)
    assert inferred(config, facts()) == {"values": [4.8, 2.4, 1.2], "epochs": 90}
    assert not inferred(MultiStepConf(milestones=[1], values=[1.0, 0.5], epochs=2), facts())
    assert not list(MultiStep.infer(config, facts(lr=None, epochs=None)))


@pytest.mark.parametrize("epochs", [3, 7, 90, 1000])
def test_value_changes_exactly_at_the_milestone(epochs: int) -> None:
    """Also where epoch / epochs is not exact."""
    for milestone in range(1, epochs):
        schedule = MultiStep(milestones=[milestone], values=[1.0, 0.1], epochs=epochs)
        assert schedule((milestone - 1) / epochs) == 1.0
        assert schedule(milestone / epochs) == 0.1


@pytest.mark.parametrize(
    "config, paths",
    [
        (MultiStepConf(milestones=[5, 5], values=[1.0, 0.1, 0.01], epochs=9), ["milestones"]),
        (MultiStepConf(milestones=[5], values=[1.0], epochs=9), ["values"]),
        (MultiStepConf(epochs=9), ["milestones"]),
        (MultiStepConf(milestones=[], values=[1.0, 0.1], epochs=9), ["values"]),
        (MultiStepConf(milestones=[5], values=[1.0, 0.3], gamma=0.5, epochs=9), ["gamma"]),
        (MultiStepConf(milestones=[5], values=[1.0, 0.5], gamma=0.5, epochs=9), []),
        (MultiStepConf(milestones=[5], values=[1.0, 0.3], epochs=9), []),
    ],
)
def test_problems(config: MultiStep, paths: list[str]) -> None:
    assert [problem.path for problem in MultiStep.problems(config, facts())] == paths


@pytest.mark.parametrize(
    "config, paths",
    [
        (MultiStepConf(milestones=[5]), ["epochs", "values"]),
        (MultiStepConf(milestones=[5], values=[], epochs=9), ["values"]),  # type: ignore[config-value]  # on purpose
        (MultiStepConf(values=[1.0, 0.1]), ["epochs", "milestones"]),
    ],
)
def test_what_cannot_be_inferred(config: MultiStep, paths: list[str]) -> None:
    assert lacking(config, facts(lr=None, epochs=None)) == paths


def test_resolved_schedule_has_no_problem() -> None:
    resolved = resolve(MultiStepConf(milestones=[30, 60], gamma=0.3), lambda _: facts()).config
    assert resolved.values == pytest.approx([4.8, 1.44, 0.432])
    assert not list(MultiStep.problems(resolved, facts()))
    assert not inferred(resolved, facts())


def test_one_value_needs_no_milestones() -> None:
    assert inferred(MultiStepConf(milestones=[]), facts()) == {"values": [4.8], "epochs": 90}


def test_what_does_not_fit_is_refused_when_built() -> None:
    with pytest.raises(ValueError, match="1 values for 1 milestones"):
        MultiStep(milestones=[1], values=[1.0], epochs=3)


def test_call_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="MultiStep cannot be built without epochs and values"):
        MultiStep(milestones=[1])


@pytest.mark.parametrize("epochs, count, want", [(90, 3, [30, 60]), (10, 3, [4, 8]), (100, 1, []), (7, 4, [2, 4, 6])])
def test_milestones_at_equal_distances(epochs: int, count: int, want: list[int]) -> None:
    config = MultiStepConf(values=[1.0 / 2**i for i in range(count)])
    assert inferred(config, facts(epochs=epochs)) == {"milestones": want, "epochs": epochs}


@pytest.mark.parametrize("parts", [1, 3, 7, 30, 1000])
def test_parts_are_equal_and_exact_at_their_start(parts: int) -> None:
    for part in range(parts):
        assert part_at(part / parts, parts) == part
        assert part_at((part + 0.99) / parts, parts) == part
    assert part_at(1 - 1e-9, parts) == parts - 1


def test_values() -> None:
    schedule = PiecewiseConstant(values=[3.0, 1.0, 2.0])
    assert [schedule(p) for p in (0.0, 0.3, 1 / 3, 0.6, 2 / 3, 0.999)] == [3.0, 3.0, 1.0, 1.0, 2.0, 2.0]
    assert schedule.update is Update.EPOCH


def test_a_staircase_is_piecewise_constant_over_powers() -> None:
    powers = PiecewiseConstant(values=[0.4 * 0.5**i for i in range(5)])
    schedule = Staircase(start=0.4, gamma=0.5, num_decays=4)
    for i in range(101):
        assert schedule(i / 101) == pytest.approx(powers(i / 101), rel=1e-12)
    assert Staircase(start=0.4, gamma=0.5, num_decays=0)(0.99) == 0.4


def test_start_is_inferred() -> None:
    config = StaircaseConf(gamma=0.5, num_decays=2)
    assert inferred(config, facts()) == {"start": 4.8}
    assert lacking(config, facts(lr=None)) == ["start"]
    assert not inferred(StaircaseConf(start=1.0, gamma=0.5, num_decays=2), facts())
    with pytest.raises(ValueError, match="Staircase cannot be built without start"):
        Staircase(gamma=0.5, num_decays=2)

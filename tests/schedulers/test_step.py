"""Step and StepFixedGamma: equal shares of the run, exact at their boundaries."""

import pytest
from scheduler_facts import facts

from ssltyped.schedulers.step import Step, StepFixedGamma, StepFixedGammaConf, part_at
from ssltyped.types import Update


@pytest.mark.parametrize("parts", [1, 3, 7, 30, 1000])
def test_parts_are_equal_and_exact_at_their_start(parts: int) -> None:
    for part in range(parts):
        assert part_at(part / parts, parts) == part
        assert part_at((part + 0.99) / parts, parts) == part
    assert part_at(1 - 1e-9, parts) == parts - 1


def test_values() -> None:
    schedule = Step(values=[3.0, 1.0, 2.0])
    assert [schedule(p) for p in (0.0, 0.3, 1 / 3, 0.6, 2 / 3, 0.999)] == [3.0, 3.0, 1.0, 1.0, 2.0, 2.0]
    assert schedule.update is Update.EPOCH


def test_fixed_gamma_is_step_over_powers() -> None:
    powers = Step(values=[0.4 * 0.5**i for i in range(5)])
    schedule = StepFixedGamma(start=0.4, gamma=0.5, num_decays=4)
    for i in range(101):
        assert schedule(i / 101) == pytest.approx(powers(i / 101), rel=1e-12)
    assert StepFixedGamma(start=0.4, gamma=0.5, num_decays=0)(0.99) == 0.4


def test_start_is_inferred() -> None:
    config = StepFixedGammaConf(gamma=0.5, num_decays=2)
    assert [(i.field, i.value) for i in StepFixedGamma.infer(config, facts())] == [("start", 4.8)]
    assert [p.path for p in StepFixedGamma.problems(config, facts())] == ["start"]
    assert not list(StepFixedGamma.problems(StepFixedGammaConf(start=1.0, gamma=0.5, num_decays=2), facts()))
    with pytest.raises(ValueError, match="start is None"):
        StepFixedGamma(gamma=0.5, num_decays=2)(0.0)

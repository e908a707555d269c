"""PiecewiseConstant and Staircase: equal shares of the run, exact at their boundaries."""

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.schedulers.piecewise import PiecewiseConstant, Staircase, StaircaseConf, part_at
from ssltyped.types import Update


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

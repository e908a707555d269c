"""InverseSqrt: it goes on from a warmup without a jump, and falls with the root."""

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.schedulers.composite import Composite, Interval
from ssltyped.schedulers.inverse_sqrt import InverseSqrt, InverseSqrtConf
from ssltyped.schedulers.linear import Linear


def test_after_a_warmup() -> None:
    schedule = Composite(
        schedulers=[Linear(start=0.0, end=2.0), InverseSqrt(start=2.0, warmup=0.1)],
        lengths=[0.1, 0.9],
        intervals=[Interval.RESCALED, Interval.FIXED],
    )
    assert schedule(0.1) == pytest.approx(2.0)
    assert schedule(0.4) == pytest.approx(1.0)
    assert schedule(0.9) == pytest.approx(2.0 / 3)


def test_at_zero() -> None:
    assert InverseSqrt(start=2.0, warmup=0.25)(0.0) == 1.0


def test_start_is_inferred() -> None:
    assert inferred(InverseSqrtConf(warmup=0.1), facts()) == {"start": 4.8}
    assert lacking(InverseSqrtConf(warmup=0.1), facts(lr=None)) == ["start"]
    with pytest.raises(ValueError, match="InverseSqrt cannot be built without start"):
        InverseSqrt(warmup=0.1)

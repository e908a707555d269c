"""Polynomial: a line at power 1, and what is inferred."""

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.schedulers.linear import Linear
from ssltyped.schedulers.polynomial import Polynomial, PolynomialConf


def test_power_one_is_a_line_and_others_bend() -> None:
    line, half, square = (Polynomial(start=2.0, power=power) for power in (1.0, 0.5, 2.0))
    for i in range(20):
        assert line(i / 20) == pytest.approx(Linear(start=2.0, end=0.0)(i / 20))
        assert half(i / 20) == pytest.approx(2.0 * (line(i / 20) / 2) ** 0.5)
    assert square(0.5) == 0.5


def test_start_is_inferred() -> None:
    assert inferred(PolynomialConf(), facts()) == {"start": 4.8}
    assert not inferred(PolynomialConf(start=1.0), facts())
    assert lacking(PolynomialConf(), facts(lr=None)) == ["start"]
    with pytest.raises(ValueError, match="Polynomial cannot be built without start"):
        Polynomial()

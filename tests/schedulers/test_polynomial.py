"""Polynomial: a line at power 1, and what is inferred."""

import pytest
from scheduler_facts import facts

from ssltyped.schedulers.linear import Linear
from ssltyped.schedulers.polynomial import Polynomial, PolynomialConf


def test_power_one_is_a_line_and_others_bend() -> None:
    line, half, square = (Polynomial(start=2.0, power=power) for power in (1.0, 0.5, 2.0))
    for i in range(20):
        assert line(i / 20) == pytest.approx(Linear(start=2.0, end=0.0)(i / 20))
        assert half(i / 20) == pytest.approx(2.0 * (line(i / 20) / 2) ** 0.5)
    assert square(0.5) == 0.5


def test_start_is_inferred() -> None:
    assert [(i.field, i.value) for i in Polynomial.infer(PolynomialConf(), facts())] == [("start", 4.8)]
    assert not list(Polynomial.infer(PolynomialConf(start=1.0), facts()))
    assert [p.path for p in Polynomial.problems(PolynomialConf(), facts())] == ["start"]
    with pytest.raises(ValueError, match="start is None"):
        Polynomial()(0.0)

"""Constant, Linear, Polynomial and InverseSqrt: their values, and what is inferred."""

from typing import Optional

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.schedulers.composite import Composite, Interval
from ssltyped.schedulers.curves import (
    Constant,
    ConstantConf,
    InverseSqrt,
    InverseSqrtConf,
    Linear,
    LinearConf,
    Polynomial,
    PolynomialConf,
)
from ssltyped.types import Inference


def test_value_is_the_learning_rate_unless_given() -> None:
    (inference,) = Constant.infer(ConstantConf(), facts())
    assert inference == Inference("value", 4.8, "the learning rate of the optimizer", default=True)
    assert not inferred(ConstantConf(value=0.1), facts())
    assert not list(Constant.infer(ConstantConf(), facts(lr=None)))


def test_without_value() -> None:
    assert lacking(ConstantConf(), facts(lr=None)) == ["value"]
    with pytest.raises(ValueError, match="Constant cannot be built without value"):
        Constant()


def test_zero_is_a_value() -> None:
    assert Constant(value=0.0)(0.3) == 0.0
    assert not inferred(ConstantConf(value=0.0), facts())


@pytest.mark.parametrize("nodes, base, start", [(1, 0.6, 0.0), (8, 0.6, 0.6), (1, None, 0.0), (8, None, None)])
def test_a_warmup_is_inferred(nodes: int, base: Optional[float], start: Optional[float]) -> None:
    found = {i.field: i.value for i in Linear.infer(LinearConf(), facts(nodes=nodes, base_lr_of_one_node=base))}
    assert found == ({"end": 4.8} if start is None else {"end": 4.8, "start": start})


def test_given_ends_are_left_alone() -> None:
    assert not inferred(LinearConf(start=0.1, end=0.2), facts())
    assert not list(Linear.infer(LinearConf(), facts(lr=None)))


def test_without_ends() -> None:
    assert lacking(LinearConf(), facts(lr=None)) == ["end", "start"]
    (problem,) = Linear.problems(LinearConf(end=4.8), facts(nodes=8, base_lr_of_one_node=None))
    assert problem.path == "start"
    assert "follows from the optimizer's base_lr, which is not set" in problem.message
    assert not list(Linear.problems(LinearConf(start=0.0, end=0.0), facts()))
    with pytest.raises(ValueError, match="Linear cannot be built without end"):
        Linear(start=0.0)
    with pytest.raises(ValueError, match="Linear cannot be built without end and start"):
        Linear()


def test_line() -> None:
    schedule = Linear(start=1.0, end=3.0)
    assert [schedule(p) for p in (0.0, 0.25, 1.0)] == [1.0, 1.5, 3.0]


def test_power_one_is_a_line_and_others_bend() -> None:
    line, half, square = (Polynomial(start=2.0, power=power) for power in (1.0, 0.5, 2.0))
    for i in range(20):
        assert line(i / 20) == pytest.approx(Linear(start=2.0, end=0.0)(i / 20))
        assert half(i / 20) == pytest.approx(2.0 * (line(i / 20) / 2) ** 0.5)
    assert square(0.5) == 0.5


def test_start_of_a_polynomial_is_inferred() -> None:
    assert inferred(PolynomialConf(), facts()) == {"start": 4.8}
    assert not inferred(PolynomialConf(start=1.0), facts())
    assert lacking(PolynomialConf(), facts(lr=None)) == ["start"]
    with pytest.raises(ValueError, match="Polynomial cannot be built without start"):
        Polynomial()


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


def test_start_of_an_inverse_root_is_inferred() -> None:
    assert inferred(InverseSqrtConf(warmup=0.1), facts()) == {"start": 4.8}
    assert lacking(InverseSqrtConf(warmup=0.1), facts(lr=None)) == ["start"]
    with pytest.raises(ValueError, match="InverseSqrt cannot be built without start"):
        InverseSqrt(warmup=0.1)

"""Constant: its value, inferred or given."""

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.schedulers.constant import Constant, ConstantConf
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

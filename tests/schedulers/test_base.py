"""FromLR: one field is the learning rate of the optimizer, unless it is given or there is none."""

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.config import INFERRED, build, config_for
from ssltyped.schedulers.base import FromLR


class Half(FromLR):
    """Half of its only field."""

    at_lr = "top"

    def __init__(self, *, top: float = INFERRED) -> None:
        self.top = top

    def __call__(self, progress: float) -> float:
        return self.top / 2


HalfConf = config_for(Half)


@pytest.mark.parametrize(("top", "filled"), [(None, {"top": 4.8}), (0.0, {}), (3.0, {})])
def test_a_field_that_a_schedule_names(top: float | None, filled: dict[str, float]) -> None:
    asked = HalfConf() if top is None else HalfConf(top=top)
    assert inferred(asked, facts()) == filled
    assert not list(Half.infer(asked, facts(lr=None)))


def test_without_a_learning_rate() -> None:
    assert lacking(HalfConf(), facts(lr=None)) == ["top"]
    assert build(HalfConf(top=3.0))(0.5) == 1.5

"""Counters, warmups, and steps given in epochs."""

from __future__ import annotations

import numpy as np
import pytest
from losses.proofs import facts

from ssltyped.losses.state import CountingLoss, steps_from_epochs, warmed_up
from ssltyped.types import Batch, Model, Moment, StepOutput


class Counted(CountingLoss):
    counters = ("seen",)
    seen: int = 0

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        raise NotImplementedError


def test_counters_travel_with_the_state() -> None:
    loss, other = Counted(), Counted()
    loss.seen = 7
    other.load_state_dict(loss.state_dict())
    assert (other.seen, Counted().seen) == (7, 0)


@pytest.mark.parametrize("steps", [2, 7, 30])
def test_a_warmup_is_equal_parts(steps: int) -> None:
    want = [*np.linspace(0.04, 0.07, steps), 0.07, 0.07]
    assert [warmed_up(0.04, 0.07, step, steps) for step in range(steps + 2)] == pytest.approx(want)


def test_no_warmup_and_one_step_of_it() -> None:
    assert warmed_up(0.04, 0.07, 0, 0) == 0.07
    assert [warmed_up(0.04, 0.07, step, 1) for step in range(2)] == [0.04, 0.07]


def test_epochs_become_steps() -> None:
    known = facts(num_images=64, batch_size=8)  # 8 steps an epoch
    (found,) = steps_from_epochs("warmup_steps", 1.5, known)
    assert (found.field, found.value) == ("warmup_steps", 12)
    assert "1.5 epochs x 8 steps" in found.rule
    (none,) = steps_from_epochs("warmup_steps", None, known)
    assert (none.value, none.default) == (0, True), "and steps that are given stand"
    assert not list(steps_from_epochs("warmup_steps", 1.5, facts(num_images=None))), "it is not known yet"

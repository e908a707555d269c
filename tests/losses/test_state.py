"""Counters, warmups, steps given in epochs; the momentum teacher, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from losses.proofs import HEAD, NOTHING, LinearModel, facts, waves
from torch import Tensor, nn

from ssltyped.heads.identity import IdentityHead
from ssltyped.losses.state import CountingLoss, MomentumTeacher, cosine_momentum, steps_from_epochs, warmed_up
from ssltyped.model.model import SSLModel
from ssltyped.trunks.resnet import ResNet
from ssltyped.types import Batch, Model, Moment, Outputs, StepOutput


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


class Normed(LinearModel):
    """Outputs that depend on BatchNorm and on dropout."""

    def __init__(self) -> None:
        super().__init__(dim=4)
        self.bn = nn.BatchNorm1d(4).double()
        self.dropout = nn.Dropout(0.5)

    def forward(self, views, *, masks=(), heads=None, features=NOTHING) -> Outputs:  # type: ignore[no-untyped-def]  # as in the base
        return Outputs({HEAD: (self.dropout(self.bn(super().forward(views).of(HEAD))),)}, {})


def view(images: int = 6) -> Tensor:
    return waves(images, 4, 1, 1)


def test_weights_and_statistics_are_averaged() -> None:
    student = Normed()
    teacher = MomentumTeacher(student, batch_statistics=False)
    start = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    student([view()])
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    teacher.update(student, 0.9)
    for name, value in student.state_dict().items():
        want = value if not value.is_floating_point() else 0.9 * start[name] + 0.1 * value
        torch.testing.assert_close(teacher.model.state_dict()[name], want, rtol=1e-12, atol=1e-12)
    assert student.bn.running_mean is not None
    assert not torch.equal(start["bn.running_mean"], student.bn.running_mean)


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_noise_is_off_and_the_statistics_are_as_asked(batch_statistics: bool) -> None:
    student = Normed()
    teacher = MomentumTeacher(student, batch_statistics=batch_statistics)
    teacher.train()  # as the engine's module.train() does
    first, again = (teacher([view()]).of(HEAD) for _ in range(2))
    assert torch.equal(first, again), "dropout is off"
    mean = first.mean(dim=0).abs().max().item()
    assert (mean < 1e-9) is batch_statistics
    assert not first.requires_grad
    assert student.dropout.training


def test_tied_weights_move_once() -> None:
    student = Normed()
    student.tied = student.weight
    teacher = MomentumTeacher(student, batch_statistics=False)
    with torch.no_grad():
        teacher.model.get_parameter("weight").zero_()
        student.weight.fill_(1.0)
    teacher.update(student, 0.9)
    torch.testing.assert_close(teacher.model.get_parameter("weight"), torch.full((4, 4), 0.1, dtype=torch.float64))


def test_what_is_frozen_in_the_student_is_frozen_in_the_teacher() -> None:
    trunk = ResNet(depth=18, width_multiplier=0.125)
    student = SSLModel(trunk=trunk, heads={"plain": IdentityHead(in_dim=64)}, frozen=["trunk.layer1"])
    teacher = MomentumTeacher(student, batch_statistics=True).train()
    modes = {name: module.training for name, module in teacher.model.named_modules() if name.endswith("bn1")}
    assert modes["trunk.bn1"]
    assert not modes["trunk.layer1.0.bn1"]


def test_it_is_a_copy_that_learns_nothing() -> None:
    student = Normed()
    teacher = MomentumTeacher(student, batch_statistics=True)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    with torch.no_grad():
        student.weight.zero_()
    assert teacher.model.get_parameter("weight").abs().max() > 0


def test_the_momentum_rises_along_a_cosine() -> None:
    assert cosine_momentum(0.996, 0.0) == pytest.approx(0.996)
    assert cosine_momentum(0.996, 0.5) == pytest.approx(0.998)
    assert cosine_momentum(0.996, 1.0) == 1.0

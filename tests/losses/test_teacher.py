"""The momentum teacher, by hand."""

from __future__ import annotations

import pytest
import torch
from losses.proofs import HEAD, NOTHING, LinearModel, waves
from torch import Tensor, nn

from ssltyped.heads.identity import IdentityHead
from ssltyped.losses.teacher import MomentumTeacher, cosine_momentum
from ssltyped.model.model import SSLModel
from ssltyped.trunks.resnet import ResNet
from ssltyped.types import Outputs


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

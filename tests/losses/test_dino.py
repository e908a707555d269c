"""DINO beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
from losses.proofs import HEAD, LinearModel, at, waves
from losses.told import inferred, problems

from ssltyped.losses.dino import DINOLoss, DINOLossConf
from ssltyped.types import Batch, Moment


def dino(**changes: object) -> DINOLoss:
    return DINOLoss(**{"head": HEAD, "num_prototypes": 4, "temperature_warmup_steps": 0, **changes})  # type: ignore[arg-type]  # by name


def test_the_same_crop_is_never_its_own_target() -> None:
    loss = dino(crops_for_teacher=[1])
    teacher = torch.eye(4)[:2] * 50
    student = torch.cat([teacher, -teacher, teacher])  # crop 1 disagrees with itself: that does not count
    assert loss.distil(student, teacher, 3, 0.07).loss < 1e-6
    assert loss.distil(torch.cat([-teacher, teacher, -teacher]), teacher, 3, 0.07).loss > 1


def test_the_temperature_rises_over_the_first_steps() -> None:
    loss = dino(temperature_warmup_steps=4)
    temperatures = [loss.temperature(at(step)) for step in range(6)]
    assert temperatures == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07])


def test_the_teacher_follows_the_student_slower_and_slower() -> None:
    loss, model = (
        dino(num_prototypes=3, momentum=0.5),
        LinearModel(scored=(3,), embeds=False),
    )
    loss.setup(model)
    start = loss.teacher.model.get_parameter("weight").clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    carry = {"mean": torch.zeros(1, 3)}
    loss.update(model, [carry], Moment(0, 10**9, 1))
    torch.testing.assert_close(loss.teacher.model.get_parameter("weight"), start + 0.5)
    loss.update(model, [carry], Moment(9, 10, 1))
    torch.testing.assert_close(loss.teacher.model.get_parameter("weight"), start + 0.5)
    assert loss.product(model) is loss.teacher.model


def test_what_it_infers_and_refuses() -> None:
    asked = DINOLossConf(temperature_warmup_epochs=3.0, crops_for_teacher=[0, 2])
    assert inferred(asked, outputs=(4096,)) == {"num_prototypes": 4096, "temperature_warmup_steps": 24}
    assert "crops_for_teacher: got [0, 2], but the data makes the crops 0 to 1" in problems(asked)
    assert "exactly one output; head has 2" in problems(asked, outputs=(8, 8), num_views=3)
    one = Batch(views=(waves(2, 5, 1, 1),), index=torch.arange(2))
    with pytest.raises(ValueError, match=r"crops_for_teacher is \[0, 1\]; the batch has 1 crops"):
        dino().step(LinearModel(scored=(4,), embeds=False), one, at(0))

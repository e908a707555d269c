"""How far weights move, against numpy; a teacher in steps of its student; what was written of a memory."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from ssltyped.engine.movement import SAMPLED, Movement, Refreshed, weights_of

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@torch.no_grad()
def moved(module: nn.Module, by: float) -> None:
    for number, parameter in enumerate(module.parameters()):
        parameter.add_(by * (1 + number))


def flat(module: nn.Module) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in module.parameters() if p.ndim > 1])


def test_a_step_and_a_teacher_against_numpy() -> None:
    student = network()
    teacher, before, movement = copy.deepcopy(student), flat(student), Movement()
    moved(teacher, 0.3)
    movement.start(student)
    moved(student, 0.01)
    size, (lag,) = movement.finish(student, [teacher])
    step = np.linalg.norm(flat(student) - before)
    assert size == pytest.approx(step / np.linalg.norm(before), rel=1e-5)
    assert lag == pytest.approx(np.linalg.norm(flat(student) - flat(teacher)) / step, rel=1e-5)


def test_a_teacher_that_is_the_student_lags_by_nothing() -> None:
    student, movement = network(), Movement()
    movement.start(student)
    moved(student, 0.01)
    assert movement.finish(student, [student])[1] == [0.0]


def test_what_cannot_be_compared_is_no_number() -> None:
    student, movement = network(), Movement()
    size, lags = movement.finish(student, [student])
    assert math.isnan(size), "nothing was started"
    assert math.isnan(lags[0])
    movement.start(student)
    size, lags = movement.finish(student, [student])
    assert size == 0
    assert math.isnan(lags[0]), "of a step that moved nothing"
    movement.start(student)
    moved(student, 0.01)
    assert math.isnan(movement.finish(student, [nn.Linear(2, 2)])[1][0]), "a teacher of another kind"


def test_only_matrices_and_kernels_that_learn_count() -> None:
    student = network()
    student[0].requires_grad_(False)
    assert list(weights_of(student)) == ["3.weight"]


def test_the_share_of_a_memory_that_was_written() -> None:
    memory, seen = torch.zeros(12, 2), Refreshed()
    assert math.isnan(seen.look([memory])[0]), "nothing to compare with"
    seen.wrote([4])
    seen.wrote([2])
    memory[:6] += 1
    assert seen.look([memory]) == [pytest.approx(1)]
    seen.wrote([6])
    assert seen.look([memory]) == [0.0]
    seen.wrote([6])
    memory[:2] += 1
    assert seen.look([memory]) == [pytest.approx(1 / 3)]


def test_of_a_large_memory_rows_at_equal_distances_are_looked_at() -> None:
    memory, seen = torch.zeros(64 * SAMPLED, 2), Refreshed()
    seen.look([memory])
    seen.wrote([len(memory) // 2])
    memory[: len(memory) // 2] += 1
    assert seen.look([memory]) == [pytest.approx(1)]


def test_it_goes_on_after_a_restart() -> None:
    memory, first, second = torch.zeros(12, 2), Refreshed(), Refreshed()
    first.look([memory])
    first.wrote([3])
    second.load_state_dict(first.state_dict(), CPU)
    second.wrote([3])
    memory[:3] += 1
    assert second.look([memory]) == [pytest.approx(0.5)]

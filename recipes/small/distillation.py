"""Distillation of SwAV into a network of half the width, after recipes.small.swav."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from recipes.small.base import DIGITS, Dials, crops, small
from recipes.small.swav import swav
from ssltyped.experiment import Experiment
from ssltyped.losses.distillation import SwAVDistillationLossConf
from ssltyped.losses.frozen_teacher import FrozenTeacherConf


def distillation(dials: Dials = DIGITS) -> Experiment:
    """The student's scores of the teacher's prototypes follow the teacher's balanced codes."""
    teacher = swav(dials)
    trained = FrozenTeacherConf(trunk=teacher.trunk, heads=teacher.heads, weights=Path("runs/swav/weights.pt"))
    return small(
        dataclasses.replace(dials, width=dials.width / 2),
        loss=SwAVDistillationLossConf(teacher=trained),
        heads=teacher.heads,
        views=crops(2, size=dials.image_size),
    )


recipe = distillation()

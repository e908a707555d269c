"""DINO: a student matches the centred and sharpened outputs of its momentum teacher on other views."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Len
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.losses.outputs import (
    PROTOTYPES,
    inferred_width,
    more_than_images,
    precise,
    softmax_range,
    wrong_crops,
)
from ssltyped.losses.state import steps_from_epochs, warmed_up
from ssltyped.losses.teacher import TaughtLoss, move_center, still_center
from ssltyped.types import Batch, Carry, Facts, Inference, Model, Moment, Problem, Signals, StepOutput


class DINOLoss(TaughtLoss):
    """Self-distillation without labels (Caron et al. 2021, arXiv 2104.14294, eq. 1 to 4 and algorithm 1).

    The student sees all V crops, the teacher the crops in `crops_for_teacher`; both give logits (rows by crop, K):

        P_t = softmax((g_t - c) / T_t)      log P_s = log_softmax(g_s / T_s)
        loss = mean over teacher crops q and student crops v != q of  mean_n  - sum_k P_t(n, k) log P_s(n, k)

    After the update c <- m_c c + (1 - m_c) mean of g_t over teacher crops and all images of the step, and the teacher
    moves, theta_t <- m theta_t + (1 - m) theta_s, with m from `momentum` up to 1 along a cosine (section 3.1); its
    BatchNorm computes with its own batch, as in the authors' code. T_t rises linearly over the first
    `temperature_warmup_steps`. Memory grows as V B K, time as Q V B K with Q crops of the
    teacher. Logs `entropy` of P_t and `center_norm`.

    Raises:
        ValueError: fewer crops than the teacher needs, or a head that has not exactly one output.

    Args:
        num_prototypes: K, width of the head; 65536 in the paper.
        momentum: m at the start; 0.996 (section 3.1); null: what suits the steps of the run.
        student_temperature: T_s; 0.1.
        teacher_temperature: T_t after the warmup; 0.04 to 0.07 (section 3.1).
        warmup_teacher_temperature: T_t at the start; 0.04.
        temperature_warmup_steps: steps over which T_t rises.
        temperature_warmup_epochs: the same in epochs; 30 in the paper.
        crops_for_teacher: crops that the teacher sees; the two of full resolution.
        center_momentum: m_c; 0.9.
    """

    head_has = PROTOTYPES

    def __init__(
        self,
        *,
        head: str = INFERRED,
        num_prototypes: Annotated[int, Gt(0)] = INFERRED,
        momentum: Annotated[float, Ge(0), Le(1), MayBeInferred()] = 0.996,
        student_temperature: Annotated[float, Gt(0)] = 0.1,
        teacher_temperature: Annotated[float, Gt(0)] = 0.07,
        warmup_teacher_temperature: Annotated[float, Gt(0)] = 0.04,
        temperature_warmup_steps: Annotated[int, Ge(0)] = INFERRED,
        temperature_warmup_epochs: Optional[Annotated[float, Ge(0)]] = None,
        crops_for_teacher: Annotated[list[Annotated[int, Ge(0)]], Len(1)] = [0, 1],  # noqa: B006  # never changed
        center_momentum: Annotated[float, Ge(0), Le(1)] = 0.9,
    ) -> None:
        super().__init__()
        self.head = head
        self.num_prototypes, self.momentum, self.student_temperature = num_prototypes, momentum, student_temperature
        self.teacher_temperature, self.warmup_teacher_temperature = teacher_temperature, warmup_teacher_temperature
        self.temperature_warmup_steps = temperature_warmup_steps
        self.temperature_warmup_epochs = temperature_warmup_epochs
        self.crops_for_teacher, self.center_momentum = list(crops_for_teacher), center_momentum
        self.center = nn.Buffer(torch.zeros(1, num_prototypes))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from inferred_width("num_prototypes", config.head, facts)
        yield from steps_from_epochs("temperature_warmup_steps", config.temperature_warmup_epochs, facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from wrong_crops("crops_for_teacher", config.crops_for_teacher, facts)
        if facts.num_views < 2:
            yield Problem("", f"DINO needs at least 2 crops of every image; the data makes {facts.num_views}")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        yield from more_than_images("num_prototypes", config.num_prototypes, "prototypes", facts)
        yield from still_center("center_momentum", config.center_momentum)

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        if len(batch.views) <= max(self.crops_for_teacher):
            raise ValueError(f"crops_for_teacher is {self.crops_for_teacher}; the batch has {len(batch.views)} crops")
        student = precise(model(batch.views, heads=[self.head]).of(self.head))
        whole = [batch.views[crop] for crop in self.crops_for_teacher]
        teacher = precise(self.teacher(whole, heads=[self.head]).of(self.head))
        output = self.distil(student, teacher, len(batch.views), self.temperature(moment))
        first = self.crops_for_teacher[0]
        other = student.detach().chunk(len(batch.views))[1 if first == 0 else 0]
        taught = ((teacher.chunk(len(whole))[0], other),)
        centred = ((teacher, self.center),)
        signals = output.signals + Signals(taught=taught, centred=centred, teachers=(self.teacher.model,))
        return dataclasses.replace(output, signals=signals)

    def temperature(self, moment: Moment) -> float:
        """T_t of a step."""
        start, end = self.warmup_teacher_temperature, self.teacher_temperature
        return warmed_up(start, end, moment.step, self.temperature_warmup_steps)

    def distil(
        self, student: Float[Tensor, "VB K"], teacher: Float[Tensor, "QB K"], num_crops: int, temperature: float
    ) -> StepOutput:
        """The loss of given logits at the teacher's temperature, with the centre as it is."""
        targets = F.softmax((teacher - self.center) / temperature, dim=1)
        log_p = F.log_softmax(student / self.student_temperature, dim=1).chunk(num_crops)
        pairs = [
            -(target * log_p[v]).sum(dim=1).mean()
            for q, target in zip(self.crops_for_teacher, targets.chunk(len(self.crops_for_teacher)), strict=True)
            for v in range(num_crops)
            if v != q
        ]
        logs = {"entropy": torch.special.entr(targets).sum(dim=1).mean(), "center_norm": self.center.norm()}
        carry = {"mean": teacher.mean(dim=0, keepdim=True)}
        expected = softmax_range(student.shape[1])
        loss = torch.stack(pairs).mean()
        return StepOutput(loss=loss, logs=logs, carry=carry, expected=expected, signals=Signals(targets=(targets,)))

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        move_center(self.center, [carry["mean"] for carry in carries], self.center_momentum)
        super().update(model, carries, moment)


DINOLossConf = config_for(DINOLoss)

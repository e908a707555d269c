"""DINO: a student matches the centred and sharpened outputs of its momentum teacher on other views."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Len
from jaxtyping import Float
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import config_for
from ssltyped.losses.outputs import precise, single_output
from ssltyped.losses.state import CountingLoss, steps_from_epochs, warmed_up
from ssltyped.losses.teacher import MomentumTeacher, cosine_momentum
from ssltyped.types import Batch, Facts, Inference, Model, Problem, StepOutput


class DINOLoss(CountingLoss):
    """Self-distillation without labels (Caron et al. 2021, arXiv 2104.14294, eq. 1 to 4 and algorithm 1).

    The student sees all V crops, the teacher the crops in `crops_for_teacher`; both give logits (rows by crop, K):

        P_t = softmax((g_t - c) / T_t)      log P_s = log_softmax(g_s / T_s)
        loss = mean over teacher crops q and student crops v != q of  mean_n  - sum_k P_t(n, k) log P_s(n, k)

    After the update c <- m_c c + (1 - m_c) mean of g_t over teacher crops and all images of the world, and the teacher
    moves, theta_t <- m theta_t + (1 - m) theta_s, with m from `momentum` up to 1 along a cosine (section 3.1); its
    BatchNorm computes with its own batch, as in the authors' code. T_t rises linearly over the first
    `temperature_warmup_steps`. Memory grows as V B K, time as Q V B K with Q crops of the
    teacher. Logs `entropy` of P_t and `center_norm`.

    Raises:
        ValueError: fewer crops than the teacher needs, or a model that has not exactly one output.

    Args:
        num_prototypes: K, width of the model's output; 65536 in the paper.
        momentum: m at the start; 0.996 (section 3.1).
        student_temperature: T_s; 0.1.
        teacher_temperature: T_t after the warmup; 0.04 to 0.07 (section 3.1).
        warmup_teacher_temperature: T_t at the start; 0.04.
        temperature_warmup_steps: steps over which T_t rises.
        temperature_warmup_epochs: the same in epochs; 30 in the paper.
        crops_for_teacher: crops that the teacher sees; the two of full resolution.
        center_momentum: m_c; 0.9.
    """

    center: Tensor
    teacher: MomentumTeacher

    def __init__(
        self,
        *,
        num_prototypes: Optional[Annotated[int, Gt(0)]] = None,
        momentum: Annotated[float, Ge(0), Le(1)] = 0.996,
        student_temperature: Annotated[float, Gt(0)] = 0.1,
        teacher_temperature: Annotated[float, Gt(0)] = 0.07,
        warmup_teacher_temperature: Annotated[float, Gt(0)] = 0.04,
        temperature_warmup_steps: Optional[Annotated[int, Ge(0)]] = None,
        temperature_warmup_epochs: Optional[Annotated[float, Ge(0)]] = None,
        crops_for_teacher: Annotated[list[Annotated[int, Ge(0)]], Len(1)] = [0, 1],  # noqa: B006  # never changed
        center_momentum: Annotated[float, Ge(0), Le(1)] = 0.9,
    ) -> None:
        super().__init__()
        if num_prototypes is None:
            raise ValueError(
                "num_prototypes is None: give the width of the model's output, or resolve the config first"
            )
        self.num_prototypes, self.momentum, self.student_temperature = num_prototypes, momentum, student_temperature
        self.teacher_temperature, self.warmup_teacher_temperature = teacher_temperature, warmup_teacher_temperature
        self.temperature_warmup_steps = temperature_warmup_steps
        self.temperature_warmup_epochs = temperature_warmup_epochs
        self.crops_for_teacher, self.center_momentum = list(crops_for_teacher), center_momentum
        self.register_buffer("center", torch.zeros(1, num_prototypes))
        self._seen: list[Tensor] = []

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if len(facts.output_dims) == 1:
            yield Inference("num_prototypes", facts.output_dims[0], "width of the model's output")
        steps, epochs = config.temperature_warmup_steps, config.temperature_warmup_epochs
        yield from steps_from_epochs("temperature_warmup_steps", epochs, steps, facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.num_views < 2:
            yield Problem("", f"DINO needs at least 2 crops of every image; the data makes {facts.num_views}")
        if max(config.crops_for_teacher) >= facts.num_views:
            message = f"got {config.crops_for_teacher}, but the data makes the crops 0 to {facts.num_views - 1}"
            yield Problem("crops_for_teacher", message)
        if len(facts.output_dims) > 1:
            yield Problem("", f"DINO needs a model with one output; it has {len(facts.output_dims)}")

    def setup(self, model: Model) -> None:
        self.teacher = MomentumTeacher(model, batch_statistics=True)

    def step(self, model: Model, batch: Batch) -> StepOutput:
        if len(batch.views) <= max(self.crops_for_teacher):
            raise ValueError(f"crops_for_teacher is {self.crops_for_teacher}; the batch has {len(batch.views)} crops")
        student = precise(single_output(model(batch.views), "DINO"))
        teacher = precise(self.teacher([batch.views[crop] for crop in self.crops_for_teacher])[0])
        self._seen.append(teacher.mean(dim=0, keepdim=True))
        return self.distil(student, teacher, len(batch.views))

    @property
    def temperature(self) -> float:
        """T_t of the next step."""
        start, end = self.warmup_teacher_temperature, self.teacher_temperature
        return warmed_up(start, end, self.steps_done, self.temperature_warmup_steps or 0)

    def distil(self, student: Float[Tensor, "VB K"], teacher: Float[Tensor, "QB K"], num_crops: int) -> StepOutput:
        """The loss of given logits, with the centre and the temperature as they are."""
        targets = F.softmax((teacher - self.center) / self.temperature, dim=1)
        log_p = F.log_softmax(student / self.student_temperature, dim=1).chunk(num_crops)
        pairs = [
            -(target * log_p[v]).sum(dim=1).mean()
            for q, target in zip(self.crops_for_teacher, targets.chunk(len(self.crops_for_teacher)), strict=True)
            for v in range(num_crops)
            if v != q
        ]
        logs = {"entropy": torch.special.entr(targets).sum(dim=1).mean(), "center_norm": self.center.norm()}
        return StepOutput(loss=torch.stack(pairs).mean(), logs=logs)

    @torch.no_grad()
    def after_update(self, model: Model, progress: float) -> None:
        for mean in self._seen:
            self.center.lerp_(distributed.all_reduce_mean(mean).to(self.center.dtype), 1 - self.center_momentum)
        self._seen.clear()
        self.teacher.update(model, cosine_momentum(self.momentum, progress))
        super().after_update(model, progress)


DINOLossConf = config_for(DINOLoss)

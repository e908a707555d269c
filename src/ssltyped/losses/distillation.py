"""Distillation of a trained, frozen teacher into a student."""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Len
from jaxtyping import Float
from torch import Tensor

from ssltyped.config import INFERRED, config_for, raised_by
from ssltyped.config.hints import listed
from ssltyped.losses.assignments import assign
from ssltyped.losses.frozen_teacher import FrozenTeacher
from ssltyped.losses.outputs import BALANCED, all_outputs, precise, softmax_range, wrong_crops
from ssltyped.losses.supervised import CrossEntropyLoss, labels_of, needs_labels
from ssltyped.model.files import about
from ssltyped.types import Batch, Facts, Loss, LossRange, Model, Moment, Problem, StepOutput


class Soft(Enum):
    """What compares the student's logits with the teacher's."""

    KL = "kl_divergence"
    MSE = "mse"
    CROSS_ENTROPY = "cross_entropy"


class DistillationLoss(Loss):
    """Labels and the teacher's logits together (Hinton et al. 2015, arXiv 1503.02531, section 2).

    With the logits x of the student and t of the teacher (B, K), and class y,

        loss = (1 - alpha) CE(x, y) + alpha soft(x, t)
        KL:  T^2 mean_n KL(softmax(t / T) || softmax(x / T))      MSE:  mean (x - t)^2
        CROSS_ENTROPY:  T^2 mean_n H(softmax(t / T), softmax(x / T))

    Labels are not needed with alpha 1. Memory and time grow as B K.

    Raises:
        ValueError: a head that has not exactly one output, or a batch without labels where they are needed.

    Args:
        head: the student's head that is read.
        teacher: the trained model.
        alpha: weight of the soft part.
        temperature: T; has no effect on MSE.
        soft: what compares the logits.
    """

    uses_labels = True

    def __init__(
        self,
        *,
        head: str = INFERRED,
        teacher: FrozenTeacher,
        alpha: Annotated[float, Ge(0), Le(1)] = 1.0,
        temperature: Annotated[float, Gt(0)] = 1.0,
        soft: Soft = Soft.KL,
    ) -> None:
        super().__init__()
        self.head, self.teacher, self.alpha, self.temperature, self.soft = head, teacher, alpha, temperature, soft
        self.hard = CrossEntropyLoss(heads=[head])

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if config.alpha < 1:
            yield from needs_labels(facts)
            yield from other_classes(config.teacher.weights, facts)
        if config.soft is Soft.MSE and config.temperature != 1:
            yield Problem("temperature", "has no effect with mse: leave it out")

    def setup(self, model: Model) -> None:
        with raised_by("teacher"):
            self.teacher.load()

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        student = precise(model(batch.views, heads=[self.head]).of(self.head))
        soft = self.compare(student, precise(self.teacher(batch.views)[0]))
        loss = self.alpha * soft
        if self.alpha < 1:
            loss = loss + (1 - self.alpha) * self.hard.of_output(student, labels_of(batch))
        return StepOutput(loss=loss, logs={"soft": soft.detach()}, expected=LossRange())

    def compare(self, student: Float[Tensor, "B K"], teacher: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
        """soft(x, t) of the equation."""
        if self.soft is Soft.MSE:
            return F.mse_loss(student, teacher)
        log_p = F.log_softmax(student / self.temperature, dim=1)
        target = F.softmax(teacher / self.temperature, dim=1)
        cross = -(target * log_p).sum(dim=1).mean()
        if self.soft is Soft.KL:
            cross = cross - torch.special.entr(target).sum(dim=1).mean()
        return cross * self.temperature**2


def other_classes(weights: Path, facts: Facts) -> Iterator[Problem]:
    """A teacher of classes that are not those of the labels, or not in their order, would teach against them."""
    try:
        theirs = str(about(weights).get("classes", "")).split("\n") if weights.is_file() else [""]
    except ValueError:  # of another kind, which loading it says
        return
    if facts.classes and theirs != [""] and tuple(theirs) != facts.classes:
        names = f"its outputs are the classes {listed(theirs)}, the labels are {listed(facts.classes)}"
        yield Problem("teacher.weights", f"{names}: they must be the same, or alpha=1 leaves the labels out")


class CropDistillationLoss(Loss):
    """What the distillations of multi-crop methods share: which student crop follows which crop of the teacher.

    The teacher sees the crops in `crops_for_teacher`; crop q of it teaches the student's crop v

        swapped:      for all v != q                    else:  for v = q and for every v that the teacher does not see

    Args:
        head: the student's head that is read.
        teacher: the trained model.
        crops_for_teacher: crops that the teacher sees; the two of full resolution.
        swapped: a crop is taught by the others, not by itself.
        student_temperature: of the student's softmax.
    """

    def __init__(
        self,
        *,
        head: str = INFERRED,
        teacher: FrozenTeacher,
        crops_for_teacher: Annotated[list[Annotated[int, Ge(0)]], Len(1)] = [0, 1],  # noqa: B006  # never changed
        swapped: bool = False,
        student_temperature: Annotated[float, Gt(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.head, self.teacher, self.swapped, self.student_temperature = head, teacher, swapped, student_temperature
        self.crops_for_teacher = list(crops_for_teacher)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from wrong_crops("crops_for_teacher", config.crops_for_teacher, facts)
        if config.swapped and facts.num_views < 2:
            yield Problem("swapped", "needs at least 2 crops of every image; the data makes 1")

    def setup(self, model: Model) -> None:
        with raised_by("teacher"):
            self.teacher.load()

    def taught(self, batch: Batch) -> list[Tensor]:
        """The teacher's outputs."""
        return [precise(output) for output in self.teacher([batch.views[crop] for crop in self.crops_for_teacher])]

    def pairs(self, num_crops: int) -> list[tuple[int, int]]:
        """(Place in crops_for_teacher, student crop) of each term of the loss."""
        return [
            (place, v)
            for place, q in enumerate(self.crops_for_teacher)
            for v in range(num_crops)
            if (v != q if self.swapped else v == q or v not in self.crops_for_teacher)
        ]

    def cross(
        self, targets: Sequence[Float[Tensor, "B _"]], student: Float[Tensor, "VB K"], num_crops: int
    ) -> Float[Tensor, ""]:
        """The mean cross entropy of all pairs, for distributions of each teacher crop and logits of the student."""
        log_p = F.log_softmax(student / self.student_temperature, dim=1).chunk(num_crops)
        return torch.stack([-(targets[q] * log_p[v]).sum(dim=1).mean() for q, v in self.pairs(num_crops)]).mean()


class SwAVDistillationLoss(CropDistillationLoss):
    """The student predicts the teacher's balanced codes (SwAV, Caron et al. 2020, with a frozen teacher).

        loss = mean over matrices of prototypes and pairs (q, v) of  mean_n  H(assign(t_q), softmax(s_v / T_s))

    Both models give an embedding and scores (B, K) for each matrix of prototypes; `assign` is Sinkhorn's over the
    images of the world (`ssltyped.losses.assignments`). Memory and time grow as V B K.

    Args:
        epsilon: of the assignment; 0.03.
        num_iters: Sinkhorn iterations; 0: a softmax of the scores / epsilon.
    """

    whole_batch = BALANCED
    outputs = (2, None, "an embedding and scores, as PrototypesHead gives them")

    def __init__(
        self,
        *,
        head: str = INFERRED,
        teacher: FrozenTeacher,
        crops_for_teacher: Annotated[list[Annotated[int, Ge(0)]], Len(1)] = [0, 1],  # noqa: B006  # never changed
        swapped: bool = False,
        student_temperature: Annotated[float, Gt(0)] = 0.1,
        epsilon: Annotated[float, Gt(0)] = 0.03,
        num_iters: Annotated[int, Ge(0)] = 3,
    ) -> None:
        super().__init__(
            head=head,
            teacher=teacher,
            crops_for_teacher=crops_for_teacher,
            swapped=swapped,
            student_temperature=student_temperature,
        )
        self.epsilon, self.num_iters = epsilon, num_iters

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        student = all_outputs(model(batch.views, heads=[self.head]), [self.head])[1:]
        losses = []
        for scores, taught in zip(student, self.taught(batch)[1:], strict=True):
            crops = taught.chunk(len(self.crops_for_teacher))
            codes = [assign(crop, epsilon=self.epsilon, num_iters=self.num_iters) for crop in crops]
            losses.append(self.cross(codes, scores, len(batch.views)))
        ranges = [softmax_range(scores.shape[1]) * (1 / len(losses)) for scores in student]
        return StepOutput(loss=torch.stack(losses).mean(), expected=sum(ranges[1:], ranges[0]))


class DINODistillationLoss(CropDistillationLoss):
    """The student matches the teacher's sharpened outputs (DINO, Caron et al. 2021, without centre).

        loss = mean over pairs (q, v) of  mean_n  H(softmax(t_q / T_t), softmax(s_v / T_s))

    Memory grows as V B K, time as that times the crops of the teacher.

    Args:
        teacher_temperature: T_t; 0.07.
    """

    def __init__(
        self,
        *,
        head: str = INFERRED,
        teacher: FrozenTeacher,
        crops_for_teacher: Annotated[list[Annotated[int, Ge(0)]], Len(1)] = [0, 1],  # noqa: B006  # never changed
        swapped: bool = False,
        student_temperature: Annotated[float, Gt(0)] = 0.1,
        teacher_temperature: Annotated[float, Gt(0)] = 0.07,
    ) -> None:
        super().__init__(
            head=head,
            teacher=teacher,
            crops_for_teacher=crops_for_teacher,
            swapped=swapped,
            student_temperature=student_temperature,
        )
        self.teacher_temperature = teacher_temperature

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        student = precise(model(batch.views, heads=[self.head]).of(self.head))
        targets = F.softmax(self.taught(batch)[0] / self.teacher_temperature, dim=1)
        loss = self.cross(targets.chunk(len(self.crops_for_teacher)), student, len(batch.views))
        return StepOutput(loss=loss, expected=softmax_range(student.shape[1]))


class MSNDistillationLoss(CropDistillationLoss):
    """The student matches the teacher's assignments p_t, which its head gives as probabilities (MSNHead).

        loss = mean over pairs (q, v) of  mean_n  H(p_t, softmax(s_v / T_s))

    MSN: Assran et al. 2022, arXiv 2204.07141. Memory and time grow as V B K.
    """

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        student = precise(model(batch.views, heads=[self.head]).of(self.head))
        targets = self.taught(batch)[0].chunk(len(self.crops_for_teacher))
        loss = self.cross(targets, student, len(batch.views))
        return StepOutput(loss=loss, expected=softmax_range(student.shape[1]))


class IBOTDistillationLoss(CropDistillationLoss):
    """The student matches the teacher's class token and patches (iBOT, Zhou et al. 2022, without centres).

        loss = lambda_cls  mean over pairs (q, v) of  mean_n  H(softmax(t_q / T_t), softmax(s_v / T_s))
             + lambda_patch  mean over q, n and patches i of  H(softmax(t_q(n, i) / T_p), softmax(s_q(n, i) / T_s))

    Both models give two outputs for the teacher's crops: logits of the class token (B, K) and of patches (B, T, K');
    for the others the student's head reads `local_feature` and gives one. With masks, the student sees the crops masked
    and the second mean is over the masked patches of an image. Memory and time grow as V B K + G B T K', with G
    crops of the teacher.

    Args:
        teacher_temperature: T_t; 0.07.
        teacher_patch_temperature: T_p; 0.07.
        lambda_cls: weight of the class token's part.
        lambda_patch: weight of the patches' part.
        local_feature: the trunk's feature that the heads read for crops that the teacher does not see.
    """

    takes_masks = True

    outputs = (2, 2, "two outputs, of class token and patches, as IBOTHead has")

    def __init__(
        self,
        *,
        head: str = INFERRED,
        teacher: FrozenTeacher,
        crops_for_teacher: Annotated[list[Annotated[int, Ge(0)]], Len(1)] = [0, 1],  # noqa: B006  # never changed
        swapped: bool = False,
        student_temperature: Annotated[float, Gt(0)] = 0.1,
        teacher_temperature: Annotated[float, Gt(0)] = 0.07,
        teacher_patch_temperature: Annotated[float, Gt(0)] = 0.07,
        lambda_cls: Annotated[float, Ge(0)] = 1.0,
        lambda_patch: Annotated[float, Ge(0)] = 1.0,
        local_feature: str = "lastCLS",
    ) -> None:
        super().__init__(
            head=head,
            teacher=teacher,
            crops_for_teacher=crops_for_teacher,
            swapped=swapped,
            student_temperature=student_temperature,
        )
        self.teacher_temperature, self.teacher_patch_temperature = teacher_temperature, teacher_patch_temperature
        self.lambda_cls, self.lambda_patch, self.local_feature = lambda_cls, lambda_patch, local_feature

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if sorted(config.crops_for_teacher) != list(range(len(config.crops_for_teacher))):
            yield Problem("crops_for_teacher", f"got {config.crops_for_teacher}; it must be the first crops: 0, 1, ...")

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        crops = len(self.crops_for_teacher)
        masks = [mask for mask in batch.masks[:crops] if mask is not None]
        cls, patches = all_outputs(model(batch.views[:crops], masks=masks, heads=[self.head]), [self.head])
        rest, read = batch.views[crops:], {self.head: self.local_feature}
        local = [precise(model(rest, heads=[self.head], features=read).of(self.head))] if rest else []
        taught_cls, taught_patches = self.taught(batch)
        targets = F.softmax(taught_cls / self.teacher_temperature, dim=1).chunk(crops)
        cls_term = self.cross(targets, torch.cat([cls, *local]), len(batch.views))
        target = F.softmax(taught_patches / self.teacher_patch_temperature, dim=-1)
        entropy = -(target * F.log_softmax(patches / self.student_temperature, dim=-1)).sum(dim=-1)
        counted = torch.cat(masks).flatten(1).to(entropy.dtype) if masks else torch.ones_like(entropy)
        patch_term = ((entropy * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)).mean()
        logs = {"cls": cls_term.detach(), "patch": patch_term.detach()}
        loss = self.lambda_cls * cls_term + self.lambda_patch * patch_term
        of_patch = softmax_range(patches.shape[-1]) * self.lambda_patch
        return StepOutput(loss=loss, logs=logs, expected=softmax_range(cls.shape[1]) * self.lambda_cls + of_patch)


DistillationLossConf = config_for(DistillationLoss)
SwAVDistillationLossConf = config_for(SwAVDistillationLoss)
DINODistillationLossConf = config_for(DINODistillationLoss)
MSNDistillationLossConf = config_for(MSNDistillationLoss)
IBOTDistillationLossConf = config_for(IBOTDistillationLoss)

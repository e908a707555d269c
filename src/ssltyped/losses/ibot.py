"""iBOT: DINO on the class token, and the same on the tokens of masked patches."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.losses.outputs import PROTOTYPES, inferred_width, more_than_images, precise, softmax_range
from ssltyped.losses.state import steps_from_epochs, warmed_up
from ssltyped.losses.teacher import TaughtLoss, move_center, still_center
from ssltyped.types import (
    Batch,
    Carry,
    Facts,
    Inference,
    LossRange,
    Model,
    Moment,
    Outputs,
    Problem,
    Signals,
    StepOutput,
)


class IBOTLoss(TaughtLoss):
    """Image BERT with an online tokenizer (Zhou et al. 2022, arXiv 2111.07832, eq. 1 to 4).

    The first `num_global_crops` G crops are global ones and carry masks m (B, h, w). The student sees them masked, and
    the other crops whole; the teacher sees the global crops whole. The head gives logits u of the class token (GB, K)
    and p of every patch (GB, T, K'). With P_t = softmax((. - c) / T_t) and P_s = softmax(. / T_s):

        cls   = mean over global q and student crops v != q of  mean_n  H(P_t(u_q(n)), P_s(u_v(n)))
        patch = mean over q and n of  sum_i m_i H(P_t(p_q(n, i)), P_s(p_q(n, i))) / max(1, sum_i m_i)
        loss  = lambda_cls cls + lambda_patch patch

    H is the cross entropy. After the update the centres c of both parts move as in DINO, over all images of the world
    (and all patches), and the teacher by a momentum that rises to 1 along a cosine. Before `masking_start_steps` the
    student sees no mask and the patch term is 0. Memory grows as V B K + G B T K', time too but
    for the G V pairs of crops. Logs `cls` and `patch`.

    Raises:
        ValueError: a global crop without a mask, or a head that does not give two outputs for it.

    Args:
        head: the head that is read; `IBOTHead` gives the outputs of class token and patches.
        num_prototypes: K, width of its first output; 8192 in the paper.
        num_patch_prototypes: K', width of its second output.
        num_global_crops: G, crops that the teacher sees.
        local_feature: the trunk's feature that the head reads for the other crops; it then gives one output.
        momentum: of the teacher at the start; 0.996; null: what suits the steps of the run.
        student_temperature: T_s; 0.1.
        teacher_temperature: T_t of the class token after the warmup; 0.07 (appendix B).
        warmup_teacher_temperature: and at the start; 0.04.
        teacher_patch_temperature: T_t of the patches after the warmup; 0.07.
        warmup_teacher_patch_temperature: and at the start; 0.04.
        temperature_warmup_steps: steps over which both rise, that of the patches from `masking_start_steps` on.
        temperature_warmup_epochs: the same in epochs; 30 in the paper.
        center_momentum: of the class token's centre; 0.9.
        patch_center_momentum: of the patches' centre; 0.9.
        lambda_cls: weight of the class token's part.
        lambda_patch: weight of the patches' part.
        masking_start_steps: steps before masks are used.
        masking_start_epochs: the same in epochs.
    """

    takes_masks = True
    head_has = PROTOTYPES
    outputs = (2, 2, "outputs of class token and patches, as IBOTHead has")

    def __init__(
        self,
        *,
        head: str = INFERRED,
        num_prototypes: Annotated[int, Gt(0)] = INFERRED,
        num_patch_prototypes: Annotated[int, Gt(0)] = INFERRED,
        num_global_crops: Annotated[int, Gt(0)] = 2,
        local_feature: str = "lastCLS",
        momentum: Annotated[float, Ge(0), Le(1), MayBeInferred()] = 0.996,
        student_temperature: Annotated[float, Gt(0)] = 0.1,
        teacher_temperature: Annotated[float, Gt(0)] = 0.07,
        warmup_teacher_temperature: Annotated[float, Gt(0)] = 0.04,
        teacher_patch_temperature: Annotated[float, Gt(0)] = 0.07,
        warmup_teacher_patch_temperature: Annotated[float, Gt(0)] = 0.04,
        temperature_warmup_steps: Annotated[int, Ge(0)] = INFERRED,
        temperature_warmup_epochs: Optional[Annotated[float, Ge(0)]] = None,
        center_momentum: Annotated[float, Ge(0), Le(1)] = 0.9,
        patch_center_momentum: Annotated[float, Ge(0), Le(1)] = 0.9,
        lambda_cls: Annotated[float, Ge(0)] = 1.0,
        lambda_patch: Annotated[float, Ge(0)] = 1.0,
        masking_start_steps: Annotated[int, Ge(0)] = INFERRED,
        masking_start_epochs: Optional[Annotated[float, Ge(0)]] = None,
    ) -> None:
        super().__init__()
        self.head, self.num_prototypes, self.num_patch_prototypes = head, num_prototypes, num_patch_prototypes
        self.num_global_crops, self.local_feature, self.momentum = num_global_crops, local_feature, momentum
        self.student_temperature, self.temperature_warmup_steps = student_temperature, temperature_warmup_steps
        self.temperature_warmup_epochs, self.teacher_temperature = temperature_warmup_epochs, teacher_temperature
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.teacher_patch_temperature = teacher_patch_temperature
        self.warmup_teacher_patch_temperature, self.center_momentum = warmup_teacher_patch_temperature, center_momentum
        self.patch_center_momentum, self.lambda_cls, self.lambda_patch = patch_center_momentum, lambda_cls, lambda_patch
        self.masking_start_steps, self.masking_start_epochs = masking_start_steps, masking_start_epochs
        self.center = nn.Buffer(torch.zeros(1, num_prototypes))
        self.patch_center = nn.Buffer(torch.zeros(1, 1, num_patch_prototypes))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from inferred_width("num_prototypes", config.head, facts)
        yield from inferred_width("num_patch_prototypes", config.head, facts, place=1)
        yield from steps_from_epochs("temperature_warmup_steps", config.temperature_warmup_epochs, facts)
        yield from steps_from_epochs("masking_start_steps", config.masking_start_epochs, facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if facts.num_views < 2 or facts.num_views < config.num_global_crops:
            least = max(2, config.num_global_crops)
            yield Problem("", f"iBOT needs at least {least} crops of every image; the data makes {facts.num_views}")
        masked = [place for place, grid in enumerate(facts.mask_grids) if grid is not None]
        if masked != list(range(config.num_global_crops)):
            needed = f"masks are needed for the first {config.num_global_crops} crops"
            yield Problem("num_global_crops", f"{needed}; the data masks {masked or 'none'}")
        if not config.lambda_cls and not config.lambda_patch:
            yield Problem("lambda_cls", "is 0, and so is lambda_patch: nothing is left that learns")
        if config.local_feature not in facts.feature_dims:
            yield Problem("local_feature", f"the trunk has no feature {config.local_feature!r}")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        yield from more_than_images("num_prototypes", config.num_prototypes, "prototypes", facts)
        yield from still_center("center_momentum", config.center_momentum)
        yield from still_center("patch_center_momentum", config.patch_center_momentum)

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        whole, rest = batch.views[: self.num_global_crops], batch.views[self.num_global_crops :]
        masks = [mask for mask in batch.masks[: self.num_global_crops] if mask is not None]
        if len(masks) < self.num_global_crops:
            raise ValueError(f"iBOT needs a mask for each of {self.num_global_crops} global crops; it has {len(masks)}")
        if starts := moment.step < self.masking_start_steps:
            masks = [torch.zeros_like(mask) for mask in masks]
        cls, patch = self._pair(model(whole, masks=() if starts else masks, heads=[self.head]))
        if rest:
            read = {self.head: self.local_feature}
            cls = torch.cat([cls, precise(model(rest, heads=[self.head], features=read).of(self.head))])
        taught_cls, taught_patch = self._pair(self.teacher(whole, heads=[self.head]))
        output = self.distil(cls, patch, taught_cls, taught_patch, torch.cat(masks), moment.step)
        images = len(batch.index)
        taught = ((taught_cls[:images], cls.detach()[-images:]),)
        centred = ((taught_cls, self.center),)
        signals = output.signals + Signals(taught=taught, centred=centred, teachers=(self.teacher.model,))
        return dataclasses.replace(output, signals=signals)

    def _pair(self, found: Outputs) -> tuple[Tensor, Tensor]:
        both = found.all_of(self.head)
        if len(both) != 2:
            raise ValueError(f"iBOT needs the outputs of class token and patches; the head gives {len(both)}")
        return precise(both[0]), precise(both[1])

    def temperature(self, ends: tuple[float, float], step: int, start: int = 0) -> float:
        """T_t of a step, on its way from the first to the second value since step `start`."""
        return warmed_up(*ends, max(0, step - start), self.temperature_warmup_steps)

    def distil(
        self,
        student_cls: Float[Tensor, "VB K"],
        student_patch: Float[Tensor, "GB T P"],
        teacher_cls: Float[Tensor, "GB K"],
        teacher_patch: Float[Tensor, "GB T P"],
        mask: Bool[Tensor, "GB h w"],
        step: int,
    ) -> StepOutput:
        """The loss of given logits at a step, with the centres as they are; rows by crop."""
        crops = self.num_global_crops
        temperature = self.temperature((self.warmup_teacher_temperature, self.teacher_temperature), step)
        shares = F.softmax((teacher_cls - self.center) / temperature, dim=-1)
        targets = shares.chunk(crops)
        images = len(targets[0])
        log_p = F.log_softmax(student_cls / self.student_temperature, dim=-1).chunk(len(student_cls) // images)
        pairs = [_cross(t, s).mean() for q, t in enumerate(targets) for v, s in enumerate(log_p) if v != q]
        of_patches = (self.warmup_teacher_patch_temperature, self.teacher_patch_temperature)
        patch_temperature = self.temperature(of_patches, step, self.masking_start_steps)
        target = F.softmax((teacher_patch - self.patch_center) / patch_temperature, dim=-1)
        entropy = _cross(target, F.log_softmax(student_patch / self.student_temperature, dim=-1))
        masked = mask.flatten(1).to(entropy.dtype)
        patch = ((entropy * masked).sum(dim=1) / masked.sum(dim=1).clamp(min=1)).mean()
        cls = torch.stack(pairs).mean()
        unused = step < self.masking_start_steps
        of_patch = LossRange(uniform=0.0) if unused else softmax_range(student_patch.shape[-1])
        expected = softmax_range(student_cls.shape[-1]) * self.lambda_cls + of_patch * self.lambda_patch
        return StepOutput(
            loss=self.lambda_cls * cls + self.lambda_patch * patch,
            logs={"cls": cls.detach(), "patch": patch.detach()},
            expected=expected,
            carry={"cls": teacher_cls.mean(dim=0, keepdim=True), "patch": teacher_patch.mean(dim=(0, 1), keepdim=True)},
            signals=Signals(targets=(shares,)),
        )

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        move_center(self.center, [carry["cls"] for carry in carries], self.center_momentum)
        move_center(self.patch_center, [carry["patch"] for carry in carries], self.patch_center_momentum)
        super().update(model, carries, moment)


IBOTLossConf = config_for(IBOTLoss)


def _cross(p: Float[Tensor, "*rows K"], log_q: Float[Tensor, "*rows K"]) -> Float[Tensor, "*rows"]:
    """H(p, q) of each row."""
    return -(p * log_q).sum(dim=-1)

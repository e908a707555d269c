"""Recorded losses with queues, prototypes and momentum teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ssltyped import distributed
from ssltyped.losses.dino import DINOLoss
from ssltyped.losses.ibot import IBOTLoss
from ssltyped.losses.moco import MoCoLoss
from ssltyped.losses.state import warmed_up
from ssltyped.losses.swav import SwAVLoss
from ssltyped.losses.teacher import cosine_momentum
from ssltyped.types import Model, Moment
from tools.golden.arrays import Adapter, Bug, Case, Inputs, Tree, Unchecked, read_params
from tools.golden.given import HEAD, Given, GivenTeacher, at, blank, grad_of, leaf, moved


@dataclass
class Queued:
    embedding_dim: int
    queue_size: int
    momentum: float
    temperature: float


def moco(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """The queue is (D, K) there and (K, D) in ours."""
    params = read_params(case, Queued)
    loss = MoCoLoss(
        head=HEAD,
        embedding_dim=params.embedding_dim,
        queue_size=params.queue_size,
        momentum=params.momentum,
        temperature=params.temperature,
        shuffle=False,
    )
    loss.queue.copy_(x.tensor("queue").T)
    loss.pointer = int(x.number("queue_ptr"))
    found: dict[str, Tree] = {}
    for number, (query, key) in enumerate(zip(x.tensors("query"), x.tensors("key"), strict=True)):
        z = leaf(query)
        loss.encoder = GivenTeacher([key])
        model = Given([z])
        value = moved(loss, model, blank(2, len(z)), at(number)).loss
        found |= {f"loss_step{number}": value, f"grad_query_step{number}": grad_of(z)}
        found[f"queue_ptr_after_step{number}"] = loss.pointer
    return {**found, "queue_after": loss.queue.T}


@dataclass
class Queue:
    start_iter: int = 0
    local_queue_length: int = 0


@dataclass
class Swapped:
    embedding_dim: int
    temperature: float
    num_iters: int
    epsilon: float
    num_crops: int
    crops_for_assign: list[int]
    queue: Queue
    use_double_precision: bool = False
    temp_hard_assignment_iters: int = 0
    shk_powerlaw: float = 0.0
    momentum: Optional[float] = None


class GivenScores(SwAVLoss):
    """SwAV whose queue has scores that are given and do not follow the queue."""

    given: Sequence[Tensor] = ()

    def queue_scores(self, model: Model) -> list[Tensor]:
        return list(self.given) or super().queue_scores(model)


def swav_of(case: Case, x: Inputs) -> GivenScores:
    """The loss with the state of a case."""
    params = read_params(case, Swapped)
    local = params.queue.local_queue_length
    loss = GivenScores(
        head=HEAD,
        temperature=params.temperature,
        epsilon=params.epsilon,
        num_iters=params.num_iters,
        crops_for_assign=params.crops_for_assign,
        hard_assignment_steps=params.temp_hard_assignment_iters,
        queue_size=local * distributed.world_size(),
        local_queue_size=local,
        queue_start_steps=params.queue.start_iter,
        power_law=params.shk_powerlaw,
        # The momentum variant does not read the option there.
        double_precision=params.use_double_precision and params.momentum is None,
        normalize_prototypes=False,
        momentum=params.momentum,
        embedding_dim=params.embedding_dim,
    )
    if "local_emb_queue" in x:
        loss.queue.copy_(x.tensor("local_emb_queue"))
        loss.filled = local
    return loss


def swapped_step(
    loss: GivenScores, moment: Moment, number: int, step: Inputs, prototypes: Sequence[Tensor], num_crops: int
) -> dict[str, Tree]:
    """One step on given scores, and the update after it."""
    scores = [leaf(score) for score in step.tensors("scores")]
    images = len(scores[0]) // num_crops
    model = Given([step.tensor("embedding"), *scores], prototypes=prototypes)
    if loss.momentum is not None:
        loss.encoder = momentum_encoder(loss, step, images, num_crops, prototypes)
    used = loss.uses_queue(moment)
    value = moved(loss, model, blank(num_crops, images), moment).loss
    return {
        f"loss_step{number}": value,
        f"grad_scores_step{number}": [grad_of(score) for score in scores],
        f"used_queue_step{number}": used,
    }


def momentum_encoder(
    loss: GivenScores, step: Inputs, images: int, num_crops: int, prototypes: Sequence[Tensor]
) -> GivenTeacher:
    """What the momentum encoder gives: of the scores the rows of the assign crops, of the embeddings those that are
    queued there, which are others if the embeddings are of the assign crops only."""
    assigned = len(loss.crops_for_assign)
    embeddings = step.tensor("momentum_embeddings")
    queued = embeddings[: assigned * (len(embeddings) // num_crops)]
    scores = [score[: assigned * images] for score in step.tensors("momentum_scores")]
    return GivenTeacher([queued, *scores], prototypes=prototypes)


def swav(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params, loss = read_params(case, Swapped), swav_of(case, x)
    prototypes = x.tensors("prototypes") if "prototypes" in x else []
    queues = [f"local_queue{head}" for head in range(len(prototypes))]
    loss.given = [x.tensor(name) for name in queues]
    first, found = int(x.number("num_iteration")), dict[str, Tree]()
    for number, step in enumerate(x.parts("steps")):
        found |= swapped_step(loss, at(first + number), number, step, prototypes, params.num_crops)
    found["num_iteration_after"] = first + len(x.parts("steps"))
    if queues:
        loss.given = ()
        found["local_emb_queue_after"] = loss.queue
        scores = loss.queue_scores(Given(prototypes=prototypes))
        found |= {f"{name}_after_compute_queue_scores": score for name, score in zip(queues, scores, strict=True)}
    return found


def swav_momentum(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params, loss = read_params(case, Swapped), swav_of(case, x)
    prototypes = x.tensors("prototypes") if "prototypes" in x else []
    first, found = int(x.number("num_iteration")), dict[str, Tree]()
    for number, step in enumerate(x.parts("steps")):
        found |= swapped_step(loss, at(first + number), number, step, prototypes, params.num_crops)
    return {**found, "local_emb_queue_after": loss.queue} if loss.local_queue_size else found


def queues_wrong_rows(case: Case, x: Inputs) -> bool:
    """Whether the momentum embeddings are of the assign crops only, and go into a queue."""
    queued = read_params(case, Swapped).queue.local_queue_length > 0
    pairs = [(step.tensor("momentum_embeddings"), step.tensor("embedding")) for step in x.parts("steps")]
    return queued and any(len(momentum) != len(own) for momentum, own in pairs)


@dataclass
class SelfDistilled:
    student_temp: float
    ema_center: float
    output_dim: int
    num_crops: int
    crops_for_teacher: list[int]
    momentum: float = 0.996


def dino(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """The crops of the teacher count from 0 there, whichever they are."""
    params = read_params(case, SelfDistilled)
    temperature = case.params["_teacher_temp"]
    assert isinstance(temperature, (int, float))
    loss = DINOLoss(
        head=HEAD,
        temperature_warmup_steps=0,
        num_prototypes=params.output_dim,
        momentum=params.momentum,
        student_temperature=params.student_temp,
        teacher_temperature=temperature,
        warmup_teacher_temperature=temperature,
        crops_for_teacher=list(range(len(params.crops_for_teacher))),
        center_momentum=params.ema_center,
    )
    loss.center.copy_(x.tensor("center"))
    found: dict[str, Tree] = {}
    for number, step in enumerate(x.parts("steps")):
        z = leaf(step.tensor("student"))
        loss.teacher = GivenTeacher([step.tensor("teacher_output")])
        value = moved(loss, Given([z]), blank(params.num_crops, len(z) // params.num_crops), at(number)).loss
        found |= {f"loss_step{number}": value, f"grad_student_step{number}": grad_of(z)}
        found[f"center_after_step{number}"] = loss.center.clone()
    return found


def counts_crops_by_place(case: Case, x: Inputs) -> bool:
    crops = read_params(case, SelfDistilled).crops_for_teacher
    return crops != list(range(len(crops)))


@dataclass
class Masked:
    num_global_crops: int
    num_local_crops: int
    out_dim: int
    patch_out_dim: int
    warmup_teacher_temp: float
    teacher_temp: float
    warmup_teacher_patch_temp: float
    teacher_patch_temp: float
    warmup_teacher_temp_epochs: int
    student_temp: float
    center_momentum: float
    center_momentum2: float
    lambda1: float
    lambda2: float
    mim_start_epoch: int
    teacher_momentum: float


def ibot_of(params: Masked) -> IBOTLoss:
    """With an epoch of one step, as the temperatures are given for epochs there."""
    return IBOTLoss(
        head=HEAD,
        num_prototypes=params.out_dim,
        num_patch_prototypes=params.patch_out_dim,
        num_global_crops=params.num_global_crops,
        momentum=params.teacher_momentum,
        student_temperature=params.student_temp,
        teacher_temperature=params.teacher_temp,
        warmup_teacher_temperature=params.warmup_teacher_temp,
        teacher_patch_temperature=params.teacher_patch_temp,
        warmup_teacher_patch_temperature=params.warmup_teacher_patch_temp,
        temperature_warmup_steps=params.warmup_teacher_temp_epochs,
        center_momentum=params.center_momentum,
        patch_center_momentum=params.center_momentum2,
        lambda_cls=params.lambda1,
        lambda_patch=params.lambda2,
        masking_start_steps=params.mim_start_epoch,
    )


def ibot(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params, epoch = read_params(case, Masked), case.params["_epoch"]
    assert isinstance(epoch, int)
    loss = ibot_of(params)
    loss.center.copy_(x.tensor("center"))
    loss.patch_center.copy_(x.tensor("center2"))
    names = [name for name in ("student_global_cls", "student_global_patch", "student_local_cls") if name in x]
    student = {name: leaf(x.tensor(name)) for name in names}
    local = [[student[name]] for name in names[2:]]
    model = Given([student[name] for name in names[:2]], *local)
    loss.teacher = GivenTeacher([x.tensor("teacher_cls"), x.tensor("teacher_patch")])
    masks = x.tensor("mask").chunk(params.num_global_crops)
    views = params.num_global_crops + (params.num_local_crops if local else 0)
    out = moved(loss, model, blank(views, len(masks[0]), masks=masks), at(epoch))
    diagnostics = Unchecked("acc_cls and acc_ptc, for which VISSL swaps student and teacher; ours logs none")
    return {
        "loss": out.loss,
        "cls": params.lambda1 * out.logs["cls"],
        "patch": params.lambda2 * out.logs["patch"],
        "acc_cls": diagnostics,
        "acc_ptc": diagnostics,
        **{f"grad_{name}": grad_of(z) for name, z in student.items()},
        "center_after": loss.center,
        "center2_after": loss.patch_center,
    }


@dataclass
class Schedules:
    teacher_temp_min: float
    teacher_temp_max: float
    teacher_temp_warmup_iters: int
    max_iteration: int
    momentum: float


def dino_schedules(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params, steps = read_params(case, Schedules), range(read_params(case, Schedules).max_iteration)
    ends = (params.teacher_temp_min, params.teacher_temp_max)
    temperatures = [warmed_up(*ends, step, params.teacher_temp_warmup_iters) for step in steps]
    momenta = [cosine_momentum(params.momentum, step / params.max_iteration) for step in steps]
    double = torch.float64
    return {
        "teacher_temp": torch.tensor(temperatures, dtype=double),
        "teacher_momentum": torch.tensor(momenta, dtype=double),
    }


ADAPTERS: Mapping[str, Adapter] = {
    "loss/moco_loss": moco,
    "loss/swav_loss": swav,
    "loss/swav_momentum_loss": swav_momentum,
    "loss/dino_loss": dino,
    "loss/ibot_loss": ibot,
    "hook/dino_schedules": dino_schedules,
}

BUGS: Mapping[str, Sequence[Bug]] = {
    "loss/swav_momentum_loss": [
        Bug("the queue of SwAV's momentum variant stores other rows than those of the assign crops", queues_wrong_rows)
    ],
    "loss/dino_loss": [
        Bug("crops of the student and places in crops_for_teacher are taken for one another", counts_crops_by_place)
    ],
}

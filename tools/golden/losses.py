"""Recorded losses: contrastive ones, those with a memory or clusters, and those with targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Optional

import torch
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.losses.assignments import hard, sinkhorn
from ssltyped.losses.barlow_twins import BarlowTwinsLoss, Standardize
from ssltyped.losses.deepcluster import DeepClusterV2Loss
from ssltyped.losses.distillation import DistillationLoss, Soft
from ssltyped.losses.frozen_teacher import FrozenTeacher
from ssltyped.losses.npid import Contrast, MemoryBankLoss
from ssltyped.losses.simclr import MultiCropSimCLRLoss, SimCLRLoss
from ssltyped.losses.supervised import BCELoss, CrossEntropyLoss
from ssltyped.types import Loss, Moment
from tools.golden.arrays import Adapter, Bug, Case, Inputs, Tree, read_params
from tools.golden.given import HEAD, Given, at, blank, grad_of, leaf, moved


@dataclass
class Contrastive:
    temperature: float = 0.1
    num_crops: int = 2


def simclr(case: Case, x: Inputs) -> Mapping[str, Tree]:
    rows = max(1, len(x.tensor("output")) // 2)
    loss = SimCLRLoss(head=HEAD, temperature=read_params(case, Contrastive).temperature, chunk_size=rows)
    return contrasted(loss, x, 2)


def multicrop_simclr(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Contrastive)
    return contrasted(MultiCropSimCLRLoss(head=HEAD, temperature=params.temperature), x, params.num_crops)


def contrasted(loss: Loss, x: Inputs, views: int) -> Mapping[str, Tree]:
    """One step on given embeddings, rows by view."""
    z = leaf(x.tensor("output"))
    out = moved(loss, Given([z]), blank(views, len(z) // views), at(0))
    return {"loss": out.loss, "grad_output": grad_of(z)}


def of_several_ranks(case: Case, x: Inputs) -> bool:
    """Whether there is more than one rank."""
    buffers = case.params.get("buffer_params")
    ranks = buffers.get("world_size", 1) if isinstance(buffers, dict) else 1
    return ranks != 1


@dataclass
class Redundancy:
    lambda_: float
    scale_loss: float


def barlow_twins(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """Every rank has the loss of the world; of its gradient one rank recorded its share of the mean."""
    params = read_params(case, Redundancy)
    joint = Standardize.JOINT
    loss = BarlowTwinsLoss(head=HEAD, lambda_off=params.lambda_, scale=params.scale_loss, standardize=joint)
    found = contrasted(loss, x, 2)
    grad = found["grad_output"]
    assert isinstance(grad, Tensor)
    return {**found, "grad_output": grad / distributed.world_size()}


@dataclass
class Sinkhorn:
    num_iter: int
    hard_assignment: bool = False
    use_double_prec: bool = False
    powerlaw: float = 0.0


def sinkhorn_knopp(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Sinkhorn)
    scores = x.tensor("Q")
    log_q = (scores.double() if params.use_double_prec else scores).log()
    q = sinkhorn(log_q, num_iters=params.num_iter, power_law=params.powerlaw)
    return {"assignments": hard(q) if params.hard_assignment else q}


@dataclass
class MemoryOfVissl:
    embedding_dim: int
    momentum: float = 0.5
    update_mem_on_forward: bool = True


@dataclass
class Negatives:
    num_negatives: int


@dataclass
class Bank:
    memory_params: MemoryOfVissl
    negative_sampling_params: Negatives
    num_train_samples: int
    loss_type: Literal["nce", "cross_entropy"] = "nce"
    norm_embedding: bool = True
    temperature: float = 0.07
    loss_weights: list[float] = field(default_factory=lambda: [1.0])
    norm_constant: float = -1
    update_mem_with_emb_index: int = -100


class GivenNoise(MemoryBankLoss):
    """The memory bank with noise images that are given, one (B, K) an output."""

    given: Sequence[Tensor] = ()

    def noise(self, index: Tensor, place: int, moment: Moment) -> Tensor:
        return self.given[place]


def memory_bank(params: Bank) -> GivenNoise:
    heads = [str(number) for number in range(len(params.loss_weights))]
    moving = None if params.memory_params.update_mem_on_forward else heads[params.update_mem_with_emb_index]
    return GivenNoise(
        heads=heads,
        embedding_dim=params.memory_params.embedding_dim,
        num_images=params.num_train_samples,
        contrast=Contrast.NCE if params.loss_type == "nce" else Contrast.INFO_NCE,
        num_negatives=params.negative_sampling_params.num_negatives,
        temperature=params.temperature,
        momentum=params.memory_params.momentum,
        loss_weights=params.loss_weights,
        memory_head=moving,
        norm_constant=params.norm_constant if params.norm_constant > 0 else None,
        normalize=params.norm_embedding,
    )


def nce(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """The banks of the ranks are averaged first, as VISSL does; ours are equal from the start."""
    loss = memory_bank(read_params(case, Bank))
    loss.memory.copy_(distributed.all_reduce_mean(x.tensor("memory")))
    found: dict[str, Tree] = {}
    for number, step in enumerate(x.parts("steps")):
        outputs = [leaf(output) for output in step.tensors("outputs")]
        loss.given = [images[:, 1:] for images in step.tensors("indices")]
        batch = blank(1, len(outputs[0]), index=step.tensor("target"))
        model = Given(outputs, apart=True)
        if moves_in_turn(case, x):
            value = in_turn(loss, outputs, batch.index)
            torch.autograd.backward(value)
        else:
            value = moved(loss, model, batch, at(number)).loss
        found |= {f"loss_step{number}": value, f"Z_step{number}": loss.z.clone()}
        found[f"grad_outputs_step{number}"] = [grad_of(output) for output in outputs]
    return {**found, "memory_after": loss.memory}


def moves_in_turn(case: Case, x: Inputs) -> bool:
    """Whether an output moves the bank that a later one is compared with."""
    params = read_params(case, Bank)
    mover = 0 if params.memory_params.update_mem_on_forward else params.update_mem_with_emb_index
    return 0 <= mover < len(params.loss_weights) - 1


def in_turn(loss: GivenNoise, outputs: Sequence[Tensor], index: Tensor) -> Tensor:
    """Each output's loss by a bank that the outputs before it have moved."""
    total, z = torch.zeros(()), loss.z
    for place, (weight, output) in enumerate(zip(loss.loss_weights, outputs, strict=True)):
        v = nn.functional.normalize(output, dim=1) if loss.normalize else output
        scores = loss.scores(v, torch.cat([index[:, None], loss.given[place]], dim=1))
        z = loss.constant(loss.estimate(scores)) if place == 0 else z
        total = total + weight * loss.discriminate(scores, z)
        if loss.memory_head in (None, str(place)):
            loss.move(distributed.gather_no_grad(index), distributed.gather_no_grad(v))
    loss.z.copy_(z)
    return total


@dataclass
class MemoryOfClusters:
    embedding_dim: int
    crops_for_mb: list[int] = field(default_factory=lambda: [0])


@dataclass
class Clusters:
    memory_params: MemoryOfClusters
    num_clusters: list[int]
    num_train_samples: int
    BATCHSIZE_PER_REPLICA: int
    DROP_LAST: bool = True
    num_crops: int = 2
    temperature: float = 0.1
    kmeans_iters: int = 10


def clusters(params: Clusters) -> DeepClusterV2Loss:
    rows = -(-params.num_train_samples // distributed.world_size())
    if params.DROP_LAST:
        rows -= rows % params.BATCHSIZE_PER_REPLICA
    return DeepClusterV2Loss(
        head=HEAD,
        num_clusters=params.num_clusters,
        embedding_dim=params.memory_params.embedding_dim,
        num_images=params.num_train_samples,
        images_per_rank=rows,
        temperature=params.temperature,
        kmeans_iters=params.kmeans_iters,
        crops_for_memory=params.memory_params.crops_for_mb,
    )


def deepcluster(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Clusters)
    loss, z = clusters(params), leaf(x.tensor("output"))
    loss.assignments.copy_(x.tensor("assignments"))
    for number, centroids in enumerate(x.tensors("centroids")):
        loss.centroids(number).copy_(centroids)
    images = len(z) // params.num_crops
    value = moved(loss, Given([z]), blank(params.num_crops, images, index=x.tensor("idx")[:images]), at(0)).loss
    return {
        "loss": value,
        "grad_output": grad_of(z),
        "local_memory_embeddings_after": loss.memory,
        # A row that was never written is marked by -1 in ours; there it claims to be of image 0.
        "local_memory_index_after": loss.memory_index.clamp(min=0),
        "start_idx_after": loss.row,
    }


def cluster_memory(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Clusters)
    loss = clusters(params)
    loss.memory.copy_(x.tensor("local_memory_embeddings"))
    loss.memory_index.copy_(x.tensor("local_memory_index"))
    for number, (order, count) in enumerate(zip(x.tensors("init_indices"), params.num_clusters, strict=True)):
        bank = loss.memory[number % len(loss.crops_for_memory)]
        loss.cluster(number, distributed.broadcast(bank[order[:count]]))
    centroids = [loss.centroids(number) for number in range(len(params.num_clusters))]
    return {"centroids": centroids, "assignments": loss.assignments}


@dataclass
class Classes:
    weight: Optional[list[float]] = None
    ignore_index: int = -1
    normalize_output: bool = False
    temperature: float = 1.0
    label_smoothing: float = 0.0


def cross_entropy(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Classes)
    loss = CrossEntropyLoss(
        heads=[HEAD],
        temperature=params.temperature,
        label_smoothing=params.label_smoothing,
        ignore_label=params.ignore_index,
        class_weights=params.weight,
        normalize=params.normalize_output,
    )
    return supervised(loss, x)


def binary(case: Case, x: Inputs) -> Mapping[str, Tree]:
    return supervised(BCELoss(heads=[HEAD], normalize=read_params(case, Classes).normalize_output), x)


def supervised(loss: CrossEntropyLoss | BCELoss, x: Inputs) -> Mapping[str, Tree]:
    """The sum over given outputs; an ensemble (S, B, K) has its images first in ours."""
    outputs, ensemble = [leaf(output) for output in x.tensors("outputs")], "ensemble" in x
    rows = [output.transpose(0, 1) if ensemble else output for output in outputs]
    value = torch.stack([loss.of_output(row, x.tensor("target")) for row in rows]).sum()
    torch.autograd.backward(value)
    return {"loss": value, "grad_outputs": [grad_of(output) for output in outputs]}


@dataclass
class Distilled:
    soft_target_alpha: float
    temperature: float
    loss_type: Soft


class NoTeacher(FrozenTeacher):
    """A teacher whose outputs are given elsewhere."""

    def __init__(self) -> None:
        nn.Module.__init__(self)


def distillation(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params, student = read_params(case, Distilled), leaf(x.tensor("student"))
    loss = DistillationLoss(
        head=HEAD,
        teacher=NoTeacher(),
        alpha=params.soft_target_alpha,
        temperature=params.temperature,
        soft=params.loss_type,
    )
    soft, hard = loss.compare(student, x.tensor("teacher_logits")), loss.hard.of_output(student, x.tensor("target"))
    value = loss.alpha * soft + (1 - loss.alpha) * hard
    torch.autograd.backward(value)
    return {"loss": value, "grad_student": grad_of(student)}


def placeholder(case: Case, x: Inputs) -> Mapping[str, Tree]:
    raise NotImplementedError("VISSL's MSN loss is a placeholder: there is nothing to compare")


ADAPTERS: Mapping[str, Adapter] = {
    "loss/simclr_info_nce_loss": simclr,
    "loss/multicrop_simclr_info_nce_loss": multicrop_simclr,
    "loss/barlow_twins_loss": barlow_twins,
    "loss/distributed_sinkhornknopp": sinkhorn_knopp,
    "loss/nce_loss_with_memory": nce,
    "loss/deepclusterv2_loss": deepcluster,
    "loss/deepclusterv2_cluster_memory": cluster_memory,
    "loss/cross_entropy_multiple_output_single_target": cross_entropy,
    "loss/bce_logits_multiple_output_single_target": binary,
    "loss/distillation_loss": distillation,
    "loss/msn_loss": placeholder,
}

BUGS: Mapping[str, Sequence[Bug]] = {
    "loss/multicrop_simclr_info_nce_loss": [
        Bug(
            "negatives of multi-crop SimCLR come from the own rank only",
            of_several_ranks,
            alone=True,
        )
    ],
    "loss/nce_loss_with_memory": [
        Bug("an output moves the memory bank before the next one is compared with it (PIRL's eq. 5)", moves_in_turn)
    ],
    "loss/msn_loss": [Bug("the MSN loss is a placeholder, not the paper's", lambda case, x: True, put_back=False)],
}

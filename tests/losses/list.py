"""The losses that are proven: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Optional

import torch
from losses import slow, slow_clusters, slow_contrastive, slow_targets, slow_teachers
from losses.proofs import DIM, HEAD, IMAGES, LinearModel, PatchModel, Proof, tensors, waves
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.losses.barlow_twins import BarlowTwinsLoss, Standardize
from ssltyped.losses.deepcluster import DeepClusterV2Loss
from ssltyped.losses.dino import DINOLoss
from ssltyped.losses.distillation import (
    DINODistillationLoss,
    DistillationLoss,
    IBOTDistillationLoss,
    MSNDistillationLoss,
    SwAVDistillationLoss,
)
from ssltyped.losses.frozen_teacher import FrozenTeacher
from ssltyped.losses.ibot import IBOTLoss
from ssltyped.losses.moco import MoCoLoss
from ssltyped.losses.msn import MSNLoss
from ssltyped.losses.npid import Contrast, MemoryBankLoss
from ssltyped.losses.simclr import MultiCropSimCLRLoss, SimCLRLoss
from ssltyped.losses.supervised import BCELoss, CrossEntropyLoss, TorchLoss
from ssltyped.losses.swav import SwAVLoss
from ssltyped.types import Batch, Loss


def model_of(name: str, loss: Loss) -> list[nn.Module]:
    """The model in the part `name` of a loss."""
    part = getattr(loss, name).model
    assert isinstance(part, nn.Module)
    return [part]


def swav(changes: Mapping[str, object]) -> SwAVLoss:
    return SwAVLoss(**{**SWAV, **changes})  # type: ignore[arg-type]  # by name


def swav_with_queue(momentum: Optional[float] = None) -> SwAVLoss:
    local = 16 // distributed.world_size()
    return swav({"queue_size": 16, "local_queue_size": local, "momentum": momentum})


def swav_world_state(loss: Loss) -> dict[str, Tensor]:
    """The queue of all ranks, sorted: its order does not matter."""
    state = tensors(loss)
    queue = distributed.gather_no_grad(state["queue"].transpose(0, 1)).transpose(0, 1)
    order = queue[:, :, :1].argsort(dim=1)
    return {**state, "queue": queue.gather(1, order.expand_as(queue))}


def masked_crops(step: int, images: int) -> Batch:
    """Two global crops of 2 x 2 patches with masks (one image has none masked), one local crop of one patch."""
    sizes = ((2, 2), (2, 2), (1, 1))
    views = [waves(images + step, DIM, *size)[step:] for size in sizes]
    masks = [(waves(images + step + v, 2, 2) > 0.3)[step + v :] for v in range(2)]
    masks[0][1] = False
    return Batch(views=tuple(views), index=torch.arange(images), masks=(*masks, None))


class Taught(FrozenTeacher):
    """A frozen teacher whose model records its calls."""

    def __init__(self, model: LinearModel) -> None:
        nn.Module.__init__(self)
        self.weights = Path("none.pt")
        self.model = model.requires_grad_(False)  # type: ignore[assignment]  # it stands in for one

    def load(self) -> None:
        for number, parameter in enumerate(self.model.parameters()):
            parameter.add_(0.1 * waves(parameter.numel() + number)[number:].reshape(parameter.shape))


def taught(kind: Callable[..., Loss], model: Callable[[], LinearModel], **params: object) -> Loss:
    return kind(head=HEAD, teacher=Taught(model()), **params)


def clusters() -> DeepClusterV2Loss:
    rows = IMAGES // distributed.world_size()
    return DeepClusterV2Loss(head=HEAD, num_clusters=[3, 2], embedding_dim=DIM, num_images=IMAGES, images_per_rank=rows)


def clusters_world_state(loss: Loss) -> dict[str, Tensor]:
    """The memory of all ranks, sorted by image."""
    state = tensors(loss)
    index = distributed.gather_no_grad(state["memory_index"])
    memory = distributed.gather_no_grad(state["memory"].transpose(0, 1)).transpose(0, 1)
    return {**state, "memory_index": index.sort().values, "memory": memory[:, index.argsort()]}


def labelled(step: int, images: int, *, soft: bool = False) -> Batch:
    """Two views; labels 0, 1, 2 and -1 (left out), or rows of 1, 0 and -1."""
    views = tuple(waves(images + step + v, DIM, 1, 1)[step + v :] for v in range(2))
    label = (
        (waves(images + step, 3)[step:] * 3).round().clamp(-1, 1) if soft else torch.arange(images).roll(step) % 4 - 1
    )
    return Batch(views=views, index=torch.arange(images), label=label)


CLASSES = partial(LinearModel, scored=(3, 3), embeds=False, apart=True)
PROTOTYPES = partial(LinearModel, scored=(6, 4))
ENCODER = partial(model_of, "encoder")
TEACHER = partial(model_of, "teacher")
SCORES = partial(LinearModel, scored=(6,), embeds=False)
SWAV = {
    "head": HEAD,
    "embedding_dim": DIM,
    "local_queue_size": 0,
    "hard_assignment_steps": 0,
    "queue_start_steps": 0,
}
PROOFS = [
    Proof("simclr", partial(SimCLRLoss, head=HEAD, chunk_size=5), slow.simclr, single=False, time_growth=2),
    Proof(
        "multicrop_simclr",
        partial(MultiCropSimCLRLoss, head=HEAD),
        slow_contrastive.multicrop_simclr,
        num_views=3,
        single=False,
        time_growth=2,
    ),
    Proof(
        "moco",
        partial(MoCoLoss, head=HEAD, embedding_dim=DIM, queue_size=16),
        slow_contrastive.moco,
        teacher=ENCODER,
    ),
    Proof("barlow_twins", partial(BarlowTwinsLoss, head=HEAD), slow_contrastive.barlow_twins, single=False),
    Proof(
        "barlow_twins_joint",
        partial(BarlowTwinsLoss, head=HEAD, standardize=Standardize.JOINT),
        partial(slow_contrastive.barlow_twins, joint=True),
        single=False,
    ),
    Proof("swav", partial(swav, {}), slow_clusters.swav, num_views=4, model=PROTOTYPES),
    Proof(
        "swav_queue",
        swav_with_queue,
        partial(slow_clusters.swav, num_views=3, queue=16),
        num_views=3,
        model=PROTOTYPES,
        world_state=swav_world_state,
    ),
    Proof(
        "swav_momentum",
        partial(swav_with_queue, momentum=0.9),
        partial(slow_clusters.swav, num_views=3, queue=16),
        num_views=3,
        model=PROTOTYPES,
        teacher=ENCODER,
        world_state=swav_world_state,
    ),
    Proof(
        "dino",
        partial(DINOLoss, head=HEAD, num_prototypes=6, crops_for_teacher=[0, 2], temperature_warmup_steps=3),
        slow_teachers.dino,
        num_views=4,
        model=SCORES,
        teacher=TEACHER,
    ),
    Proof(
        "ibot",
        partial(
            IBOTLoss,
            head=HEAD,
            num_prototypes=6,
            num_patch_prototypes=4,
            temperature_warmup_steps=0,
            masking_start_steps=0,
        ),
        slow_teachers.ibot,
        num_views=3,
        model=PatchModel,
        batch=masked_crops,
        teacher=TEACHER,
    ),
    Proof(
        "msn",
        partial(MSNLoss, head=HEAD, embedding_dim=DIM, num_prototypes=6),
        slow_teachers.msn,
        num_views=3,
        teacher=TEACHER,
    ),
    Proof(
        "npid",
        partial(MemoryBankLoss, heads=[HEAD], embedding_dim=DIM, num_images=300, num_negatives=12),
        slow_targets.npid,
        num_views=1,
    ),
    Proof(
        "pirl",
        partial(
            MemoryBankLoss,
            heads=["0", "1"],
            embedding_dim=DIM,
            num_images=300,
            num_negatives=12,
            contrast=Contrast.INFO_NCE,
            loss_weights=[0.3, 0.7],
        ),
        partial(slow_targets.npid, nce=False, weights=(0.3, 0.7)),
        num_views=1,
        model=partial(LinearModel, scored=(DIM,), apart=True),
    ),
    Proof(
        "deepcluster",
        clusters,
        slow_targets.deepcluster,
        num_views=3,
        world_state=clusters_world_state,
        memory_growth=0,
    ),
    Proof(
        "cross_entropy",
        partial(CrossEntropyLoss, heads=["0", "1"]),
        slow_targets.cross_entropy,
        model=CLASSES,
        batch=labelled,
        accumulates=False,
    ),
    Proof(
        "cross_entropy_smooth",
        partial(CrossEntropyLoss, heads=["0", "1"], label_smoothing=0.1, class_weights=[1.0, 2.0, 0.5]),
        partial(slow_targets.cross_entropy, smoothing=0.1, weights=(1.0, 2.0, 0.5)),
        model=CLASSES,
        batch=labelled,
        accumulates=False,
    ),
    Proof(
        "bce",
        partial(BCELoss, heads=["0", "1"]),
        slow_targets.bce,
        model=CLASSES,
        batch=partial(labelled, soft=True),
        accumulates=False,
    ),
    Proof(
        "torch_mse",
        partial(TorchLoss, heads=[HEAD], name="MSELoss"),
        slow_targets.mse,
        model=partial(LinearModel, scored=(3,), embeds=False),
        batch=partial(labelled, soft=True),
    ),
    Proof(
        "distillation",
        partial(taught, DistillationLoss, SCORES, alpha=0.7, temperature=2.0),
        slow_targets.distillation,
        model=SCORES,
        teacher=TEACHER,
    ),
    Proof(
        "dino_distillation",
        partial(taught, DINODistillationLoss, SCORES),
        partial(slow_targets.crops, targets=partial(slow_teachers.softmax, temperature=0.07)),
        num_views=3,
        model=SCORES,
        teacher=TEACHER,
    ),
    Proof(
        "msn_distillation",
        partial(taught, MSNDistillationLoss, SCORES, swapped=True),
        partial(slow_targets.crops, targets=list, swapped=True),
        num_views=3,
        model=SCORES,
        teacher=TEACHER,
    ),
    Proof(
        "swav_distillation",
        partial(taught, SwAVDistillationLoss, PROTOTYPES, swapped=True),
        slow_targets.swav_distillation,
        num_views=3,
        bfloat16=0.3,
        model=PROTOTYPES,
        teacher=TEACHER,
    ),
    Proof(
        "ibot_distillation",
        partial(taught, IBOTDistillationLoss, PatchModel),
        slow_targets.ibot_distillation,
        num_views=3,
        model=PatchModel,
        batch=masked_crops,
        teacher=TEACHER,
    ),
]

"""The losses that are proven: one line each."""

from __future__ import annotations

from functools import partial
from typing import Optional

import torch
from losses import slow, slow_clusters, slow_contrastive, slow_teachers
from losses.proofs import DIM, IMAGES, LinearModel, PatchModel, Proof, tensors, waves
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.losses.barlow_twins import BarlowTwinsLoss
from ssltyped.losses.dino import DINOLoss
from ssltyped.losses.ibot import IBOTLoss
from ssltyped.losses.moco import MoCoLoss
from ssltyped.losses.msn import MSNLoss
from ssltyped.losses.multicrop_simclr import MultiCropSimCLRLoss
from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.losses.swav import SwAVLoss
from ssltyped.types import Batch, Loss


def model_of(name: str, loss: Loss) -> list[nn.Module]:
    """The model in the part `name` of a loss."""
    part = getattr(loss, name).model
    assert isinstance(part, nn.Module)
    return [part]


def swav_with_queue(momentum: Optional[float] = None) -> SwAVLoss:
    local = 16 // distributed.world_size()
    return SwAVLoss(embedding_dim=DIM, queue_size=16, local_queue_size=local, momentum=momentum)


def swav_world_state(loss: Loss) -> dict[str, Tensor]:
    """The queue of all ranks, sorted: its order does not matter."""
    state = tensors(loss)
    queue = distributed.gather_no_grad(state["queue"].transpose(0, 1)).transpose(0, 1)
    order = queue[:, :, :1].argsort(dim=1)
    return {**state, "queue": queue.gather(1, order.expand_as(queue))}


def masked_crops(step: int) -> Batch:
    """Two global crops of 2 x 2 patches with masks (one image has none masked), one local crop of one patch."""
    sizes = ((2, 2), (2, 2), (1, 1))
    views = [waves(IMAGES + step, DIM, *size)[step:] for size in sizes]
    masks = [(waves(IMAGES + step + v, 2, 2) > 0.3)[step + v :] for v in range(2)]
    masks[0][1] = False
    return Batch(views=tuple(views), index=torch.arange(IMAGES), masks=(*masks, None))


PROTOTYPES = partial(LinearModel, scored=(6, 4))
ENCODER = partial(model_of, "encoder")
TEACHER = partial(model_of, "teacher")
SCORES = partial(LinearModel, scored=(6,), embeds=False)
PROOFS = [
    Proof("simclr", SimCLRLoss, slow.simclr, single=False),
    Proof("multicrop_simclr", MultiCropSimCLRLoss, slow_contrastive.multicrop_simclr, num_views=3, single=False),
    Proof(
        "moco",
        partial(MoCoLoss, embedding_dim=DIM, queue_size=16),
        slow_contrastive.moco,
        teacher=ENCODER,
    ),
    Proof("barlow_twins", BarlowTwinsLoss, slow_contrastive.barlow_twins, single=False),
    Proof("swav", partial(SwAVLoss, embedding_dim=DIM), slow_clusters.swav, num_views=4, model=PROTOTYPES),
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
        partial(DINOLoss, num_prototypes=6, crops_for_teacher=[0, 2], temperature_warmup_steps=3),
        slow_teachers.dino,
        num_views=4,
        model=SCORES,
        teacher=TEACHER,
    ),
    Proof(
        "ibot",
        partial(IBOTLoss, num_prototypes=6, num_patch_prototypes=4),
        slow_teachers.ibot,
        num_views=3,
        model=PatchModel,
        batch=masked_crops,
        teacher=TEACHER,
    ),
    Proof(
        "msn",
        partial(MSNLoss, embedding_dim=DIM, num_prototypes=6),
        slow_teachers.msn,
        num_views=3,
        teacher=TEACHER,
    ),
]

"""The losses that are proven: one line each."""

from __future__ import annotations

from functools import partial
from typing import Optional

from losses import slow, slow_clusters, slow_contrastive
from losses.proofs import DIM, LinearModel, Proof, tensors
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.losses.barlow_twins import BarlowTwinsLoss
from ssltyped.losses.moco import MoCoLoss
from ssltyped.losses.multicrop_simclr import MultiCropSimCLRLoss
from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.losses.swav import SwAVLoss
from ssltyped.types import Loss


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


PROTOTYPES = partial(LinearModel, scored=(6, 4))
ENCODER = partial(model_of, "encoder")
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
]

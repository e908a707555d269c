"""The losses that are proven: one line each."""

from __future__ import annotations

from functools import partial

from losses import slow, slow_contrastive
from losses.proofs import DIM, Proof
from torch import nn

from ssltyped.losses.barlow_twins import BarlowTwinsLoss
from ssltyped.losses.moco import MoCoLoss
from ssltyped.losses.multicrop_simclr import MultiCropSimCLRLoss
from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.types import Loss


def model_of(name: str, loss: Loss) -> list[nn.Module]:
    """The model in the part `name` of a loss."""
    part = getattr(loss, name).model
    assert isinstance(part, nn.Module)
    return [part]


PROOFS = [
    Proof("simclr", SimCLRLoss, slow.simclr, single=False),
    Proof("multicrop_simclr", MultiCropSimCLRLoss, slow_contrastive.multicrop_simclr, num_views=3, single=False),
    Proof(
        "moco",
        partial(MoCoLoss, embedding_dim=DIM, queue_size=16),
        slow_contrastive.moco,
        teacher=partial(model_of, "encoder"),
    ),
    Proof("barlow_twins", BarlowTwinsLoss, slow_contrastive.barlow_twins, single=False),
]

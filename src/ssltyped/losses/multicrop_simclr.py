"""SimCLR with more than two views: every other crop of an image is a positive in turn."""

import math
from collections.abc import Iterable
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ssltyped import distributed
from ssltyped.config import INFERRED, config_for
from ssltyped.losses.outputs import NEGATIVES, full_precision, precise, spread
from ssltyped.types import Batch, Facts, Loss, Model, Moment, Problem, StepOutput

CHUNK_ROWS = 512


class MultiCropSimCLRLoss(Loss):
    """NT-Xent over V crops an image (SwAV's code base names it so; the equation extends Chen et al. 2020, eq. 1).

    The head's output z (V B, D) holds all images of crop 0, then of crop 1, ...; u = z / |z|, s_ij = u_i . u_j. With
    n(i) the log of the sum of exp(s_ij / T) over all embeddings j of *other* images of the world,

        loss = mean over rows i and over the V - 1 other crops p of the same image of
               -log( exp(s_ip / T) / (exp(s_ip / T) + exp n(i)) )  =  softplus(n(i) - s_ip / T)

    Unlike NT-Xent's, a row's denominator leaves out the other crops of its image. Computed in float32 at least.
    Memory grows as V N (D + chunk_size): of the V B x V N similarities only `chunk_size` rows exist at a time, and they
    are computed again for the gradient. Time grows as V B x V N x D. Logs `z_std`: 1 for spread embeddings, 0 for
    collapsed ones.

    Raises:
        ValueError: fewer than 2 views, or a head that has not exactly one output.

    Args:
        temperature: T in the equation; 0.1 as in SimCLR.
        chunk_size: rows of the similarity matrix in memory at a time.
    """

    whole_batch = NEGATIVES

    def __init__(
        self,
        *,
        head: str = INFERRED,
        temperature: Annotated[float, Gt(0)] = 0.1,
        chunk_size: Annotated[int, Gt(0)] = CHUNK_ROWS,
    ) -> None:
        super().__init__()
        self.head, self.temperature, self.chunk_size = head, temperature, chunk_size

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if facts.num_views < 2:
            yield Problem("", f"needs at least 2 views of every image; the data makes {facts.num_views}")
        if facts.batch_size * facts.world_size < 2:
            yield Problem("", "needs at least 2 images in the world, to have negatives; there is 1")

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        views = len(batch.views)
        if views < 2:
            raise ValueError(f"multi-crop SimCLR needs at least 2 views of every image; the batch has {views}")
        u = F.normalize(precise(model(batch.views, heads=[self.head]).of(self.head)), dim=1)
        images = len(u) // views
        world = distributed.gather(u)
        owner = torch.arange(len(u), device=u.device) % images
        owners = (torch.arange(len(world), device=u.device) // len(u)) * images + owner.repeat(distributed.world_size())
        mine = owner + distributed.rank() * images
        chunks = [slice(first, first + self.chunk_size) for first in range(0, len(u), self.chunk_size)]
        parts = [
            checkpoint(self._negatives, u[c], world, mine[c], owners, use_reentrant=False, preserve_rng_state=False)
            for c in chunks
        ]
        negatives = torch.cat(parts)
        terms = [
            -F.logsigmoid((u * u.roll(-shift * images, 0)).sum(1) / self.temperature - negatives)
            for shift in range(1, views)
        ]
        return StepOutput(loss=torch.stack(terms).mean(), logs={"z_std": spread(u)})

    def _negatives(
        self, rows: Float[Tensor, "m D"], world: Float[Tensor, "M D"], own: Tensor, owners: Tensor
    ) -> Float[Tensor, "m"]:
        """n(i) of some rows."""
        with full_precision(rows):
            s = rows @ world.T / self.temperature
        return s.masked_fill(own[:, None] == owners, -math.inf).logsumexp(dim=1)


MultiCropSimCLRLossConf = config_for(MultiCropSimCLRLoss)

"""SimCLR: every image is its own class; its views attract, all other images of the world repel; two views or more."""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Self, cast

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.utils.checkpoint import checkpoint

from ssltyped import distributed
from ssltyped.config import INFERRED, config_for
from ssltyped.losses.outputs import NEGATIVES, full_precision, precise, softmax_range
from ssltyped.meters.representation import spread
from ssltyped.types import Batch, Facts, Inference, Loss, Model, Moment, Problem, StepOutput

TILE_BYTES = 16 * 2**20
MAX_ROWS = 512


class SimCLRLoss(Loss):
    """NT-Xent (Chen et al. 2020, "A simple framework for contrastive learning of visual representations", eq. 1).

    The head's output z (2B, D) holds the first views, then the second ones; with u = z / |z|, s_ik = u_i . u_k
    over all N = 2 B W embeddings of the world, and p(i) the other view of the same image:

        loss_i = -s_ip(i) / T + log sum_{k != i} exp(s_ik / T)         loss = mean over the 2B rows of this rank

    The N x N matrix never exists: rows are worked off `chunk_size` at a time and recomputed for the gradient,
    which needs the N log-sums of all ranks instead of an all-reduce of (N, D). Memory grows as N (D + chunk_size), time
    as B N D. All exponents are <= 0, so any
    temperature is safe; the computation is in float32 (float64 for float64) whatever the autocast dtype.
    The loss lies in [0, log(N - 1) + 2 / T]. Logs `z_std`, sqrt(D) times the mean over dimensions of the
    standard deviation of this rank's u: about 1 when the embeddings are spread, 0 when they have collapsed.

    Raises:
        ValueError: a batch that has not exactly 2 views, or a head that has not exactly one output.

    Args:
        temperature: T in the equation; 0.1 is the paper's choice for ImageNet (section 5.1, table 5).
        chunk_size: rows of the similarity matrix in memory at a time; inferred: what fits into 16 MiB, at most 512.
    """

    whole_batch = NEGATIVES

    def __init__(
        self,
        *,
        head: str = INFERRED,
        temperature: Annotated[float, Gt(0)] = 0.1,
        chunk_size: Annotated[int, Gt(0)] = INFERRED,
    ) -> None:
        super().__init__()
        self.head, self.temperature, self.chunk_size = head, temperature, chunk_size

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        rows = 2 * facts.batch_size
        columns = rows * facts.world_size
        rule = (
            f"rows of {columns} float32 similarities (2 views x {facts.batch_size} images x "
            f"{facts.world_size} ranks) in {TILE_BYTES // 2**20} MiB, at most {MAX_ROWS} and the rank's {rows}"
        )
        yield Inference("chunk_size", max(1, min(rows, MAX_ROWS, TILE_BYTES // (4 * columns))), rule, default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if facts.num_views != 2:
            yield Problem("", f"SimCLR needs exactly 2 views of every image; the data makes {facts.num_views}")
        if facts.batch_size * facts.world_size < 2:
            yield Problem("", "SimCLR needs at least 2 images in the world, to have negatives; there is 1")

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        if len(batch.views) != 2:
            raise ValueError(f"SimCLR needs exactly 2 views of every image; the batch has {len(batch.views)}")
        u = F.normalize(precise(model(batch.views, heads=[self.head]).of(self.head)), dim=1)
        loss = cast("Callable[[Tensor, float, int], Tensor]", _NTXent.apply)(u, self.temperature, self.chunk_size)
        others = len(u) * distributed.world_size() - 1
        expected = softmax_range(others, self.temperature) if others else None
        return StepOutput(loss=loss, logs={"z_std": spread(u)}, expected=expected)


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
        chunk_size: Annotated[int, Gt(0)] = MAX_ROWS,
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
        expected = softmax_range(1 + len(world) - views, self.temperature)
        return StepOutput(loss=torch.stack(terms).mean(), logs={"z_std": spread(u)}, expected=expected)

    def _negatives(
        self, rows: Float[Tensor, "m D"], world: Float[Tensor, "M D"], own: Tensor, owners: Tensor
    ) -> Float[Tensor, "m"]:
        """n(i) of some rows."""
        with full_precision(rows):
            s = rows @ world.T / self.temperature
        return s.masked_fill(own[:, None] == owners, -math.inf).logsumexp(dim=1)


class _NTXent(torch.autograd.Function):
    """NT-Xent of normalised rows, without the matrix.

    With P_ij = exp(s_ij / T - lse_i) and w_i the weight of row i in the sum of all ranks' losses (upstream gradient
    of its rank / rows), s_ij = s_ji gives d(sum)/du_i = 1/T (sum_j (w_i P_ij + w_j P_ji) u_j - 2 w_i u_p(i)).
    So a rank needs of the others only u (from the forward pass), the log-sums and the upstream gradient.
    """

    temperature: float
    chunk: int

    @staticmethod
    def forward(ctx: FunctionCtx, u: Float[Tensor, "n D"], temperature: float, chunk: int) -> Float[Tensor, ""]:
        context = cast(_NTXent, ctx)
        context.temperature, context.chunk = temperature, chunk
        world = distributed.gather_no_grad(u)
        log_sum = u.new_empty(len(u))
        tile = u.new_empty(min(chunk, len(u)), len(world))
        for first in range(0, len(u), chunk):
            rows = slice(first, first + chunk)
            s = _similarities(u, world, rows, temperature, tile)
            top = s.amax(dim=1, keepdim=True)
            log_sum[rows] = s.sub_(top).exp_().sum(dim=1).log_().add_(top[:, 0])
        ctx.save_for_backward(u, world, log_sum)
        return torch.mean(log_sum - (u * _positives(u)).sum(dim=1) / temperature)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Float[Tensor, ""]) -> tuple[Tensor, None, None]:
        context = cast(_NTXent, ctx)
        u, world, log_sum = cast("tuple[Tensor, ...]", context.saved_tensors)
        weight = (grad / len(u)).reshape(1)
        ranks = distributed.gather_no_grad(torch.cat([log_sum, weight])).reshape(-1, len(u) + 1)
        log_sums = ranks[:, :-1].flatten()
        weights = ranks[:, -1:].expand(-1, len(u)).flatten()
        out = _positives(u).mul_(-2 * weight)
        tile, other = u.new_empty(2, min(context.chunk, len(u)), len(world))
        for first in range(0, len(u), context.chunk):
            rows = slice(first, first + context.chunk)
            s = _similarities(u, world, rows, context.temperature, tile)
            p_transposed = torch.sub(s, log_sums, out=other[: len(s)]).exp_().mul_(weights)
            p = s.sub_(log_sum[rows, None]).exp_().mul_(weight)
            out[rows].addmm_(p.add_(p_transposed), world)
        return out.div_(context.temperature), None, None


def _positives(u: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """The other view of each row's image."""
    return u.roll(len(u) // 2, 0)


def _similarities(
    u: Float[Tensor, "n D"], world: Float[Tensor, "N D"], rows: slice, temperature: float, tile: Float[Tensor, "r N"]
) -> Float[Tensor, "m N"]:
    """u[rows] world^T / T in the memory of `tile`, with -inf where a row meets itself."""
    some = u[rows] / temperature
    s = torch.mm(some, world.T, out=tile[: len(some)])
    s.diagonal(distributed.rank() * len(u) + rows.start).fill_(-math.inf)
    return s


SimCLRLossConf = config_for(SimCLRLoss)
MultiCropSimCLRLossConf = config_for(MultiCropSimCLRLoss)

"""Collectives that a method may use. Without a process group (or with one rank) each is the identity.

"With gradient" means: every rank r has its own loss L_r, and the gradient that reaches an input is that of
sum_r L_r. Averaging parameter gradients over ranks (DDP) then gives the gradient of the mean loss. Every rank
must take part in the backward pass too, in the same order.

All tensors of one call have the same dtype on every rank and, but for `gather_uneven`, the same shape.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# torch 2.14 renamed the collective and warns about the old name.
_NAME = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
_all_gather = cast("Callable[[Tensor, Tensor], object]", getattr(dist, _NAME))


def world_size() -> int:
    """How many ranks work on this run; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 <= rank < world_size."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is rank 0, which writes files and logs."""
    return rank() == 0


def barrier() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        dist.barrier()


def all_reduce_sum(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """sum_r x_r on every rank, a new tensor without gradient."""
    return _reduced(x, dist.ReduceOp.SUM)


def all_reduce_max(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """max_r x_r on every rank, a new tensor without gradient."""
    return _reduced(x, dist.ReduceOp.MAX)


def _reduced(x: Shaped[Tensor, "..."], op: dist.ReduceOp.RedOpType) -> Shaped[Tensor, "..."]:
    if world_size() == 1:
        return x.detach()
    found = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(found, op=op)
    return found


def all_reduce_mean(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """sum_r x_r / W on every rank, a new tensor without gradient."""
    return all_reduce_sum(x) / world_size()


def all_reduce(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """y = sum_r x_r on every rank, with gradient: dL/dx = sum_r dL_r/dy."""
    return x if world_size() == 1 else cast("Callable[[Tensor], Tensor]", _AllReduce.apply)(x)


def mean_over_ranks(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """y = sum_r x_r / W on every rank, with gradient: dL/dx = sum_r dL_r/dy / W."""
    return all_reduce(x) / world_size()


def gather(x: Float[Tensor, "B ..."]) -> Float[Tensor, "N ..."]:
    """The rows of all ranks in rank order, with gradient: dL/dx = this rank's rows of sum_r dL_r/dy."""
    return x if world_size() == 1 else cast("Callable[[Tensor], Tensor]", _Gather.apply)(x)


def gather_no_grad(x: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "N ..."]:
    """The rows of all ranks in rank order, without gradient; for any dtype."""
    if world_size() == 1:
        return x.detach()
    rows = x.detach().contiguous()
    out = rows.new_empty((world_size() * len(rows), *rows.shape[1:]))
    _all_gather(out, rows)
    return out


def gather_uneven(x: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "N ..."]:
    """As `gather`, where the number of rows may differ from rank to rank (and may be 0); integers have no gradient."""
    if world_size() == 1:
        return x
    counts: list[int] = gather_no_grad(torch.tensor([len(x)], device=x.device)).tolist()
    most = max(counts)
    if most == 0:
        return x
    padded = torch.cat([x, x.new_zeros((most - len(x), *x.shape[1:]))])
    gathered = gather(padded) if padded.is_floating_point() else gather_no_grad(padded)
    ranks = gathered.reshape(len(counts), most, *x.shape[1:])
    return torch.cat([ranks[r, :count] for r, count in enumerate(counts)])


def broadcast(x: Shaped[Tensor, "..."], source: int = 0) -> Shaped[Tensor, "..."]:
    """The `x` of rank `source` on every rank, a new tensor without gradient."""
    if world_size() == 1:
        return x.detach()
    out = x.detach().clone(memory_format=torch.contiguous_format)
    dist.broadcast(out, source)
    return out


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        return all_reduce_sum(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        return all_reduce_sum(grad)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        return gather_no_grad(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        # reduce-scatter would move half as much, but gloo has it only in newer versions of torch.
        return all_reduce_sum(grad).chunk(world_size())[rank()]

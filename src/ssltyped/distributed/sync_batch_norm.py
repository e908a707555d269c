"""Batch normalization over the batches of several ranks, on any device and backend.

torch.nn.SyncBatchNorm needs an accelerator; `SyncBatchNorm` here is the same on the same interface for gloo on
the CPU, and `convert_sync_batchnorm` picks the one that fits the device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Optional, TypeAlias, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

Group: TypeAlias = Optional[dist.ProcessGroup]
"""The ranks that share statistics; None means all of them."""


class _SharesGroup(_BatchNorm):
    """A copy (a momentum teacher) synchronises over the same ranks; a process group itself cannot be copied."""

    process_group: Group

    def __deepcopy__(self, memo: dict[int, object]) -> _SharesGroup:
        memo[id(self.process_group)] = self.process_group
        new = self.__class__.__new__(self.__class__)
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new


class _DeviceSyncBatchNorm(_SharesGroup, nn.SyncBatchNorm):
    """torch's own, for accelerators."""


class SyncBatchNorm(_SharesGroup):
    """Batch normalization with the statistics of all ranks of a group (Ioffe and Szegedy 2015, section 3).

        y = (x - mean) / sqrt(var + eps) * weight + bias            x, y: (B, C, ...), any float dtype

    In training, mean and the biased variance are per channel over the n values of all ranks, in float32 or
    better, so that W ranks give exactly what one process with all rows would; B may differ from rank to rank.
    `running_var` gets the unbiased variance n / (n - 1). In evaluation, and in one process, it is BatchNorm.

    Raises:
        ValueError: an input of fewer than 2 dimensions, or a single value a channel over all ranks in training.

    Args:
        num_features: C, the number of channels.
        eps: added to the variance; 1e-5 is torch's default.
        momentum: weight of the new statistics in the running ones; None averages all batches equally.
        affine: whether there are a learnable weight and bias.
        track_running_stats: whether running statistics are kept; without them evaluation uses the batch's.
        process_group: the ranks that share statistics; None means all.
    """

    def __init__(
        self,
        *,
        num_features: int,
        eps: float = 1e-5,
        momentum: Optional[float] = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Group = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"SyncBatchNorm needs an input (B, C, ...); got {input.dim()} dimensions")

    def forward(self, input: Float[Tensor, "B C ..."]) -> Float[Tensor, "B C ..."]:
        if not (self.training and _size(self.process_group) > 1):
            return super().forward(input)
        self._check_input_dim(input)
        mean, var, count = _global_statistics(input.detach(), self.process_group)
        self._track(mean, var, count)
        arguments = (input, self.weight, self.bias, mean, var, count, self.eps, self.process_group)
        return cast("Callable[..., Tensor]", _Normalize.apply)(*arguments)

    def _track(self, mean: Float[Tensor, "C"], var: Float[Tensor, "C"], count: float) -> None:
        """Move the running statistics towards those of this batch."""
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), momentum)


class _Normalize(torch.autograd.Function):
    """The normalization given the global statistics, and its gradient through them.

    With x^ = (x - mean) / sqrt(var + eps), g the gradient of y, and means over the n values of all ranks:
    dL/dx = weight / sqrt(var + eps) * (g - mean(g) - x^ mean(g x^)). Weight and bias get this rank's part.
    """

    count: float
    group: Group

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Optional[Tensor],
        bias: Optional[Tensor],
        mean: Tensor,
        var: Tensor,
        count: float,
        eps: float,
        group: Group,
    ) -> Tensor:
        context = cast(_Normalize, ctx)
        scale = torch.rsqrt(var + eps)
        ctx.save_for_backward(x, torch.ones_like(mean) if weight is None else weight, mean, scale)
        context.count, context.group = count, group
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        context = cast(_Normalize, ctx)
        x, weight, mean, scale = cast("tuple[Tensor, ...]", context.saved_tensors)
        shape = _channel_shape(x)
        g = grad.to(mean.dtype)
        normal = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        grad_bias = g.sum(_batch_dims(x))
        grad_weight = (g * normal).sum(_batch_dims(x))
        total = torch.stack([grad_bias, grad_weight])
        dist.all_reduce(total, group=context.group)
        mean_g, mean_gx = total / context.count
        inner = g - mean_g.view(shape) - normal.mul_(mean_gx.view(shape))
        grad_x = inner.mul_((scale * weight).view(shape)).to(x.dtype)
        _, has_weight, has_bias, *_ = cast("tuple[bool, ...]", context.needs_input_grad)
        affine = grad_weight.to(weight.dtype) if has_weight else None, grad_bias.to(weight.dtype) if has_bias else None
        return grad_x, *affine, *[None] * 5


def convert_sync_batchnorm(module: nn.Module, group_size: int) -> nn.Module:
    """`module` with every BatchNorm synchronised over groups of `group_size` consecutive ranks.

    A layer on an accelerator becomes torch's, one on the CPU becomes ours (which works after a move too). The
    parameters, buffers and their names stay the same, and a layer at several places stays one. group_size 1 leaves
    the module as it is; the world size means all ranks. Every rank must call this at the same point, because it may
    make process groups.

    Raises:
        ValueError: group_size does not divide the world size.
    """
    world = _size(None)
    if group_size < 1 or world % group_size != 0:
        raise ValueError(f"group_size is {group_size}; it must divide the number of ranks, {world}")
    return module if group_size == 1 else _convert(module, _own_group(group_size), {})


def _convert(module: nn.Module, group: Group, converted: dict[nn.Module, nn.Module]) -> nn.Module:
    """What takes the place of `module`, wherever it is: `converted` has the modules seen before (and keeps them)."""
    if module not in converted:
        converted[module] = module
        if isinstance(module, _BatchNorm) and not isinstance(module, _SharesGroup):
            converted[module] = _synchronised(module, group)
        for name, child in list(module._modules.items()):  # named_children gives a shared one only once
            if child is not None:
                setattr(module, name, _convert(child, group, converted))
    return converted[module]


def _synchronised(norm: _BatchNorm, group: Group) -> _SharesGroup:
    """The synchronised twin of `norm`, which takes over its parameters and buffers (not copies)."""
    tensors = [*norm.parameters(recurse=False), *norm.buffers(recurse=False)]
    make = _DeviceSyncBatchNorm if any(tensor.device.type != "cpu" for tensor in tensors) else SyncBatchNorm
    new = make(
        num_features=norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=norm.affine,
        track_running_stats=norm.track_running_stats,
        process_group=group,
    )
    for name in ("weight", "bias"):
        new.register_parameter(name, getattr(norm, name))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        new.register_buffer(name, getattr(norm, name))
    return new.train(norm.training)


def _own_group(group_size: int) -> Group:
    world = _size(None)
    if group_size == world:
        return None
    # Every rank has to make every group, also those that it is not in.
    groups = [dist.new_group(list(range(first, first + group_size))) for first in range(0, world, group_size)]
    return cast(dist.ProcessGroup, groups[dist.get_rank() // group_size])


def _size(group: Group) -> int:
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def _batch_dims(x: Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]


def _channel_shape(x: Tensor) -> list[int]:
    return [-1 if dim == 1 else 1 for dim in range(x.dim())]


def _global_statistics(x: Tensor, group: Group) -> tuple[Tensor, Tensor, float]:
    """Mean, biased variance (C each) and count of all ranks' values.

    Each rank's mean and squared deviations M2 are combined by Chan et al. 1983: with n = sum n_r,
    mean = sum n_r mean_r / n and M2 = sum (M2_r + n_r (mean_r - mean)^2), which does not cancel for large means.
    """
    x = x if x.dtype == torch.float64 else x.float()
    local = x.new_zeros(3, x.shape[1])
    if x.numel() > 0:
        var, mean = torch.var_mean(x, _batch_dims(x), correction=0)
        local = torch.stack([mean, var, torch.full_like(mean, x.numel() // x.shape[1])])
    ranks = [torch.empty_like(local) for _ in range(_size(group))]
    dist.all_gather(ranks, local, group=group)
    means, variances, counts = torch.stack(ranks, dim=1)
    count = float(counts[:, 0].sum())
    if count < 2:
        raise ValueError(f"SyncBatchNorm needs more than one value a channel in training; got {count:.0f}")
    mean = (counts * means).sum(0) / count
    squares = counts * (variances + (means - mean) ** 2)
    return mean, squares.sum(0) / count, count

"""A model that has seen nothing, with the BatchNorm statistics that it would have."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssltyped import distributed
from ssltyped.model.model import SSLModel

BATCHES = 10
"""So many batches give statistics that more of them hardly change."""


@dataclasses.dataclass
class Remembered:
    """Statistics that were found, and the versions that the tensors of the model had then."""

    versions: list[int] = dataclasses.field(default_factory=list)
    statistics: list[Tensor] = dataclasses.field(default_factory=list)


def settled(
    model: SSLModel,
    views: Iterable[Tensor],
    run: Callable[[SSLModel, Tensor], object],
    remembered: Optional[Remembered] = None,
) -> SSLModel:
    """A copy whose BatchNorm layers that never saw a batch have the mean and variance of these views (collective).

    The running statistics of a new layer are mean 0 and variance 1, whatever it will see: with them an untrained
    network in eval mode is another one than that which starts to learn, and is mistaken for a better or worse one. They
    become the mean over the views, and over the ranks; all else, and layers that were trained before, stay as they are.
    `run` calls the model with a view. The model itself is given back if there is no such layer. What is `remembered` of
    the same weights, views and way to run them is taken, and kept there.
    """
    if not any(map(_is_new, model.modules())):
        return model
    remembered = remembered or Remembered()
    own = copy.deepcopy(model).eval()
    new = [module for module in own.modules() if isinstance(module, _BatchNorm) and _is_new(module)]
    own_statistics = [tensor for norm in new for tensor in (norm.running_mean, norm.running_var) if tensor is not None]
    versions = [tensor._version for tensor in (*model.parameters(), *model.buffers())]
    if distributed.all_reduce_max(
        torch.tensor(float(versions != remembered.versions), device=own_statistics[0].device)
    ):
        _settle(own, new, views, run)
        remembered.versions, remembered.statistics = versions, list(map(distributed.all_reduce_mean, own_statistics))
    for own_statistic, statistic in zip(own_statistics, remembered.statistics, strict=True):
        own_statistic.copy_(statistic)
    return own.eval()


def _settle(
    own: SSLModel, new: Sequence[_BatchNorm], views: Iterable[Tensor], run: Callable[[SSLModel, Tensor], object]
) -> None:
    """Give these layers the mean of the statistics of all views."""
    for norm in new:
        norm.train()
        norm.momentum = None  # the mean over all batches
    with torch.no_grad():
        for view in views:
            run(own, view)


def _is_new(module: nn.Module) -> bool:
    """Whether it is a BatchNorm whose running statistics nothing has moved, nor a file filled."""
    if not isinstance(module, _BatchNorm) or module.running_mean is None or module.running_var is None:
        return False
    return not bool(module.running_mean.any()) and bool((module.running_var == 1).all())

"""A model that has seen nothing, with the BatchNorm statistics that it would have."""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssltyped import distributed
from ssltyped.model.model import SSLModel

BATCHES = 10
"""So many batches give statistics that more of them hardly change."""


def settled(model: SSLModel, views: Iterable[Tensor], run: Callable[[SSLModel, Tensor], object]) -> SSLModel:
    """A copy whose BatchNorm layers that never saw a batch have the mean and variance of these views (collective).

    The running statistics of a new layer are mean 0 and variance 1, whatever it will see: with them an untrained
    network in eval mode is another one than that which starts to learn, and is mistaken for a better or worse one. They
    become the mean over the views, and over the ranks; all else, and layers that were trained before, stay as they are.
    `run` calls the model with a view. The model itself is given back if there is no such layer.
    """
    if not any(map(_is_new, model.modules())):
        return model
    own = copy.deepcopy(model).eval()
    new = [module for module in own.modules() if isinstance(module, _BatchNorm) and _is_new(module)]
    for norm in new:
        norm.train()
        norm.momentum = None  # the mean over all batches
    with torch.no_grad():
        for view in views:
            run(own, view)
        for norm in new:
            for statistic in (norm.running_mean, norm.running_var):
                assert statistic is not None
                statistic.copy_(distributed.all_reduce_mean(statistic))
    return own.eval()


def _is_new(module: nn.Module) -> bool:
    """Whether it is a BatchNorm whose running statistics nothing has moved, nor a file filled."""
    if not isinstance(module, _BatchNorm) or module.running_mean is None or module.running_var is None:
        return False
    return not bool(module.running_mean.any()) and bool((module.running_var == 1).all())

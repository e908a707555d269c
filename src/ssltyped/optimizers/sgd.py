"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Optional

import torch
from annotated_types import Ge, Gt, Lt
from torch import nn

from ssltyped.config import config_for
from ssltyped.optimizers.base import BASE_BATCH_SIZE, GroupedOptimizer, LRScaling
from ssltyped.optimizers.larc import LARC
from ssltyped.types import Facts, Problem


class SGD(GroupedOptimizer):
    """g <- g + wd p;  m <- momentum m + g;  p <- p - lr m   (nesterov: p <- p - lr (g + momentum m)).

    It is torch.optim.SGD. Momentum 0.9: Sutskever et al. 2013 and nearly all methods; weight decay 1e-4:
    He et al. 2016 (arXiv 1512.03385), section 3.4.

    Args:
        momentum: what is kept of the last step's direction.
        nesterov: look ahead by one step of the momentum.
        larc: adapt the learning rate of each tensor; null: do not.
    """

    def __init__(
        self,
        *,
        lr: Optional[Annotated[float, Gt(0)]] = None,
        base_lr: Optional[Annotated[float, Gt(0)]] = None,
        base_batch_size: Annotated[int, Gt(0)] = BASE_BATCH_SIZE,
        lr_scaling: LRScaling = LRScaling.LINEAR,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        nesterov: bool = False,
        larc: Optional[LARC] = None,
        weight_decay: Annotated[float, Ge(0)] = 1e-4,
        decay_norm: bool = False,
        decay_bias: bool = True,
        no_decay: list[str] = [],  # noqa: B006  # never changed; a config shows it as a list
        head_lr: Optional[Annotated[float, Gt(0)]] = None,
        head_weight_decay: Optional[Annotated[float, Ge(0)]] = None,
    ) -> None:
        super().__init__(
            lr=lr,
            base_lr=base_lr,
            base_batch_size=base_batch_size,
            lr_scaling=lr_scaling,
            weight_decay=weight_decay,
            decay_norm=decay_norm,
            decay_bias=decay_bias,
            no_decay=no_decay,
            head_lr=head_lr,
            head_weight_decay=head_weight_decay,
        )
        self.momentum, self.nesterov, self.larc = momentum, nesterov, larc

    def problems(self, facts: Facts) -> Iterable[Problem]:
        yield from GroupedOptimizer.problems(self, facts)
        if self.nesterov and self.momentum == 0:
            yield Problem("nesterov", "needs momentum: it looks ahead by one step of it")

    def __call__(self, module: nn.Module) -> torch.optim.Optimizer:
        lr, groups = self.groups(module)
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov)
        if self.larc is not None:
            self.larc.attach(optimizer)
        return optimizer


SGDConf = config_for(SGD)

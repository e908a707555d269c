"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Optional, Self

import torch
from annotated_types import Ge, Gt, Lt

from ssltyped.config import config_for
from ssltyped.optimizers.base import BASE_BATCH_SIZE, GroupedOptimizer, LRScaling
from ssltyped.optimizers.groups import PerHead
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.zero import MakeOptimizer, Zero
from ssltyped.types import Facts, Problem, Scheduler


class SGD(GroupedOptimizer):
    """g <- g + wd p;  m <- momentum m + g;  p <- p - lr m   (nesterov: p <- p - lr (g + momentum m)).

    It is torch.optim.SGD. Momentum 0.9: Sutskever et al. 2013 and nearly all methods; weight decay 1e-4:
    He et al. 2016 (arXiv 1512.03385), section 3.4.

    Args:
        momentum: what is kept of the last step's direction.
        nesterov: look ahead by one step of the momentum.
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
        weight_decay: Annotated[float, Ge(0)] = 1e-4,
        weight_decay_schedule: Optional[Scheduler] = None,
        decay_norm: bool = False,
        decay_bias: bool = True,
        decay_vector: bool = True,
        no_decay: list[str] = [],  # noqa: B006  # never changed; a config shows it as a list
        head_lr: Optional[Annotated[float, Gt(0)]] = None,
        head_weight_decay: Optional[Annotated[float, Ge(0)]] = None,
        per_head: list[PerHead] = [],  # noqa: B006  # as no_decay
        layer_decay: Optional[Annotated[float, Gt(0), Lt(1)]] = None,
        larc: Optional[LARC] = None,
        zero: Optional[Zero] = None,
    ) -> None:
        super().__init__(
            lr=lr,
            base_lr=base_lr,
            base_batch_size=base_batch_size,
            lr_scaling=lr_scaling,
            weight_decay=weight_decay,
            weight_decay_schedule=weight_decay_schedule,
            decay_norm=decay_norm,
            decay_bias=decay_bias,
            decay_vector=decay_vector,
            no_decay=no_decay,
            head_lr=head_lr,
            head_weight_decay=head_weight_decay,
            per_head=per_head,
            layer_decay=layer_decay,
            larc=larc,
            zero=zero,
        )
        self.momentum, self.nesterov = momentum, nesterov

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if config.nesterov and config.momentum == 0:
            yield Problem("nesterov", "needs momentum: it looks ahead by one step of it")

    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        return torch.optim.SGD, {"momentum": self.momentum, "nesterov": self.nesterov}


SGDConf = config_for(SGD)

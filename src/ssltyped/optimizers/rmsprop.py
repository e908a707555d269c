"""RMSprop."""

from __future__ import annotations

from typing import Annotated, Optional

import torch
from annotated_types import Ge, Gt, Lt

from ssltyped.config import config_for
from ssltyped.optimizers.base import BASE_BATCH_SIZE, GroupedOptimizer, LRScaling
from ssltyped.optimizers.groups import PerHead
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.zero import MakeOptimizer, Zero
from ssltyped.types import Scheduler


class RMSprop(GroupedOptimizer):
    """g <- g + wd p;  v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt(v) + eps), v = 0 at first.

    It is torch.optim.RMSprop. With momentum m <- momentum m + g / (sqrt(v) + eps) and p <- p - lr m; centered: v minus
    the square of a running mean of g in the place of v. Tieleman and Hinton 2012, lecture 6.5; Graves 2013 (arXiv
    1308.0850), section 4.2 for the centered form; the defaults are PyTorch's.

    Args:
        alpha: what is kept of the running mean of g^2.
        eps: added to the root of the mean.
        momentum: what is kept of the last step's direction.
        centered: divide by the standard deviation of the gradient instead of its root mean square.
    """

    def __init__(
        self,
        *,
        lr: Optional[Annotated[float, Gt(0)]] = None,
        base_lr: Optional[Annotated[float, Gt(0)]] = None,
        base_batch_size: Annotated[int, Gt(0)] = BASE_BATCH_SIZE,
        lr_scaling: LRScaling = LRScaling.LINEAR,
        alpha: Annotated[float, Ge(0), Lt(1)] = 0.99,
        eps: Annotated[float, Ge(0)] = 1e-8,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
        centered: bool = False,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
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
        self.alpha, self.eps, self.momentum, self.centered = alpha, eps, momentum, centered

    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        options = {"alpha": self.alpha, "eps": self.eps, "momentum": self.momentum, "centered": self.centered}
        return torch.optim.RMSprop, dict(options)


RMSpropConf = config_for(RMSprop)

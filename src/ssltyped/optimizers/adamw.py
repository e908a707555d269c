"""Adam with decoupled weight decay."""

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


class AdamW(GroupedOptimizer):
    """p <- (1 - lr wd) p - lr m' / (sqrt(v') + eps), with m', v' the bias-corrected means of g and g^2.

    It is torch.optim.AdamW. Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2; betas and eps of
    Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1; weight decay 0.01 is PyTorch's default.

    Args:
        betas: what is kept of the running means of g and of g^2.
        eps: added to the root of the second mean.
        amsgrad: divide by the largest second mean so far (Reddi et al. 2018, arXiv 1904.09237).
    """

    def __init__(
        self,
        *,
        lr: Optional[Annotated[float, Gt(0)]] = None,
        base_lr: Optional[Annotated[float, Gt(0)]] = None,
        base_batch_size: Annotated[int, Gt(0)] = BASE_BATCH_SIZE,
        lr_scaling: LRScaling = LRScaling.LINEAR,
        betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999),
        eps: Annotated[float, Ge(0)] = 1e-8,
        amsgrad: bool = False,
        weight_decay: Annotated[float, Ge(0)] = 0.01,
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
        self.betas, self.eps, self.amsgrad = betas, eps, amsgrad

    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        return torch.optim.AdamW, {"betas": self.betas, "eps": self.eps, "amsgrad": self.amsgrad}


AdamWConf = config_for(AdamW)

"""Adam."""

from typing import Annotated, Optional

import torch
from annotated_types import Ge, Lt

from ssltyped.config import config_for
from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.decay import Decay, DecayConf
from ssltyped.optimizers.groups import Group
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate, RateConf
from ssltyped.optimizers.zero import MakeOptimizer, Zero


class Adam(GroupedOptimizer):
    """g <- g + wd p;  p <- p - lr m' / (sqrt(v') + eps), with m', v' the bias-corrected means of g and g^2.

    It is torch.optim.Adam: weight decay is part of the gradient and is divided with it, unlike that of AdamW.
    Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1, also the source of betas and eps.

    Args:
        betas: what is kept of the running means of g and of g^2.
        eps: added to the root of the second mean.
        amsgrad: divide by the largest second mean so far (Reddi et al. 2018, arXiv 1904.09237).
    """

    def __init__(
        self,
        *,
        rate: Rate = RateConf(),
        betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999),
        eps: Annotated[float, Ge(0)] = 1e-8,
        amsgrad: bool = False,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        decay: Decay = DecayConf(),
        groups: list[Group] = [],  # noqa: B006  # never changed; a config shows it as a list
        larc: Optional[LARC] = None,
        zero: Optional[Zero] = None,
    ) -> None:
        super().__init__(rate=rate, weight_decay=weight_decay, decay=decay, groups=groups, larc=larc, zero=zero)
        self.betas, self.eps, self.amsgrad = betas, eps, amsgrad

    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        return torch.optim.Adam, {"betas": self.betas, "eps": self.eps, "amsgrad": self.amsgrad}


AdamConf = config_for(Adam)

"""Stochastic gradient descent with momentum."""

from collections.abc import Iterable
from typing import Annotated, Optional, Self

import torch
from annotated_types import Ge, Lt

from ssltyped.config import config_for
from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.decay import Decay, DecayConf
from ssltyped.optimizers.groups import Group
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate, RateConf
from ssltyped.optimizers.zero import MakeOptimizer, Zero
from ssltyped.types import Facts, Problem


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
        rate: Rate = RateConf(),
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        nesterov: bool = False,
        weight_decay: Annotated[float, Ge(0)] = 1e-4,
        decay: Decay = DecayConf(),
        groups: list[Group] = [],  # noqa: B006  # never changed; a config shows it as a list
        larc: Optional[LARC] = None,
        zero: Optional[Zero] = None,
    ) -> None:
        super().__init__(rate=rate, weight_decay=weight_decay, decay=decay, groups=groups, larc=larc, zero=zero)
        self.momentum, self.nesterov = momentum, nesterov

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if config.nesterov and config.momentum == 0:
            yield Problem("nesterov", "needs momentum: it looks ahead by one step of it")

    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        return torch.optim.SGD, {"momentum": self.momentum, "nesterov": self.nesterov}


SGDConf = config_for(SGD)

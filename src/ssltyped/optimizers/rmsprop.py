"""RMSprop."""

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
        rate: Rate = RateConf(),
        alpha: Annotated[float, Ge(0), Lt(1)] = 0.99,
        eps: Annotated[float, Ge(0)] = 1e-8,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
        centered: bool = False,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        decay: Decay = DecayConf(),
        groups: list[Group] = [],  # noqa: B006  # never changed; a config shows it as a list
        larc: Optional[LARC] = None,
        zero: Optional[Zero] = None,
    ) -> None:
        super().__init__(rate=rate, weight_decay=weight_decay, decay=decay, groups=groups, larc=larc, zero=zero)
        self.alpha, self.eps, self.momentum, self.centered = alpha, eps, momentum, centered

    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        options = {"alpha": self.alpha, "eps": self.eps, "momentum": self.momentum, "centered": self.centered}
        return torch.optim.RMSprop, dict(options)


RMSpropConf = config_for(RMSprop)

"""The usual optimizers of torch.optim."""

from collections.abc import Iterable
from typing import Annotated, Optional, Self

import torch
from annotated_types import Ge, Lt

from ssltyped.config import config_for
from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.decay import MATRICES, Decay, DecayConf
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


class AdamW(GroupedOptimizer):
    """p <- (1 - lr wd) p - lr m' / (sqrt(v') + eps), with m', v' the bias-corrected means of g and g^2.

    It is torch.optim.AdamW. Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2; betas and eps of
    Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1; weight decay 0.01 is PyTorch's default.
    Biases, norms and other vectors are not decayed, as ViTs are trained (`MATRICES`).

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
        weight_decay: Annotated[float, Ge(0)] = 0.01,
        decay: Decay = MATRICES,
        groups: list[Group] = [],  # noqa: B006  # never changed; a config shows it as a list
        larc: Optional[LARC] = None,
        zero: Optional[Zero] = None,
    ) -> None:
        super().__init__(rate=rate, weight_decay=weight_decay, decay=decay, groups=groups, larc=larc, zero=zero)
        self.betas, self.eps, self.amsgrad = betas, eps, amsgrad

    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        return torch.optim.AdamW, {"betas": self.betas, "eps": self.eps, "amsgrad": self.amsgrad}


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


SGDConf = config_for(SGD)
AdamConf = config_for(Adam)
AdamWConf = config_for(AdamW)
RMSpropConf = config_for(RMSprop)

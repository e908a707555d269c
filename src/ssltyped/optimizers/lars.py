"""LARS: momentum SGD with a learning rate for each tensor from the norms of its weights and its direction."""

from collections.abc import Callable, Iterable
from typing import Annotated, Optional, Self

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.decay import MATRICES, Decay
from ssltyped.optimizers.groups import Group
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate, RateConf
from ssltyped.optimizers.zero import MakeOptimizer, Zero
from ssltyped.types import Facts, Problem


class LARS(GroupedOptimizer):
    """d = g + wd p;  d <- d eta |p| / |d|;  m <- momentum m + d;  p <- p - lr m, for each tensor p.

    The factor is 1 where p or d is 0, and for tensors of one dimension with exclude_bias_and_norm, as in the methods
    that train with it (Barlow Twins, BYOL, SimCLR); `decay` leaves these out, too. Unlike LARC the weight decay is part
    of the norm, and nothing is clipped. You et al. 2017 (arXiv 1708.03888), algorithm 1, in the form of Barlow Twins
    (Zbontar et al. 2021, arXiv 2103.03230), section 2.2; eta 0.001 is of both.

    Args:
        momentum: what is kept of the last step's direction.
        eta: trust coefficient: how far a step may move a tensor, relative to its norm, at lr 1.
        exclude_bias_and_norm: tensors of one dimension (biases, weights of norms) step as with SGD.
    """

    def __init__(
        self,
        *,
        rate: Rate = RateConf(),
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        eta: Annotated[float, Gt(0)] = 0.001,
        exclude_bias_and_norm: bool = True,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        decay: Decay = MATRICES,
        groups: list[Group] = [],  # noqa: B006  # never changed; a config shows it as a list
        larc: Optional[LARC] = None,
        zero: Optional[Zero] = None,
    ) -> None:
        super().__init__(rate=rate, weight_decay=weight_decay, decay=decay, groups=groups, larc=larc, zero=zero)
        self.momentum, self.eta, self.exclude_bias_and_norm = momentum, eta, exclude_bias_and_norm

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if config.larc is not None:
            yield Problem("larc", "LARS has the adaptive rates of LARC built in: use SGD with larc, or LARS without")

    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        options = {"momentum": self.momentum, "eta": self.eta, "exclude_vectors": self.exclude_bias_and_norm}
        return LARSOptimizer, dict(options)


class LARSOptimizer(torch.optim.Optimizer):
    """The torch optimizer that `LARS` makes; its state is `momentum_buffer` of each tensor."""

    def __init__(
        self,
        params: Iterable[dict[str, object]],
        lr: float,
        momentum: float = 0.9,
        eta: float = 0.001,
        exclude_vectors: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "eta": eta, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "exclude_vectors": exclude_vectors})

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Optional[float]:  # type: ignore[override]  # torch: overloads
        """One update of every tensor that has a gradient; gradients stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            if params:
                directions = _directions(params, group["weight_decay"], group["eta"], group["exclude_vectors"])
                moments = self._moments(params, directions, group["momentum"])
                torch._foreach_add_(params, moments, alpha=-group["lr"])
        return loss

    def _moments(self, params: list[Tensor], directions: list[Tensor], momentum: float) -> list[Tensor]:
        """m of the equation, after this step."""
        moments: list[Tensor] = []
        for parameter in params:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            moments.append(state["momentum_buffer"])
        torch._foreach_mul_(moments, momentum)
        torch._foreach_add_(moments, directions)
        return moments


def _directions(params: list[Tensor], weight_decay: float, eta: float, exclude_vectors: bool) -> list[Tensor]:
    """d of the equation: a few kernels for all tensors of a group, and no wait for the device."""
    grads = [parameter.grad for parameter in params if parameter.grad is not None]
    directions = list(torch._foreach_add(grads, params, alpha=weight_decay))
    adapted = [i for i, parameter in enumerate(params) if not (exclude_vectors and parameter.ndim == 1)]
    if not adapted:
        return directions
    chosen = [directions[i] for i in adapted]
    p_norm = torch.stack(torch._foreach_norm([params[i] for i in adapted]))
    d_norm = torch.stack(torch._foreach_norm(chosen))
    rate = torch.where((p_norm > 0) & (d_norm > 0), eta * p_norm / d_norm, torch.ones_like(p_norm))
    torch._foreach_mul_(chosen, list(rate.unbind()))
    return directions


LARSConf = config_for(LARS)

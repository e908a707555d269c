"""LARC: a learning rate for each parameter tensor, from the norms of its weights and its gradient."""

from typing import Annotated, cast

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import config_for
from ssltyped.types import Component


class LARC(Component):
    """Layer-wise adaptive rate control: gradients are rescaled before the optimizer it is attached to steps.

    For each parameter tensor p with gradient g and weight decay wd, where both norms are non-zero:

        a = trust_coefficient |p| / (|g| + wd |p| + eps)
        g <- a (g + wd p)                       clip=False: the optimizer's lr multiplies a
        g <- min(a / lr, 1) (g + wd p)          clip=True: a is the largest learning rate

    Else g stays as it is; the optimizer itself does not decay weights during the step. All tensors are adapted,
    biases and norms too. It works before any optimizer: SGD's step then has the length that is wanted, while that of
    Adam and others that divide by the gradient's size depends on a only through their eps and how it changes from
    step to step. Decoupled weight decay (AdamW) becomes part of g as above. You et al. 2017 (arXiv 1708.03888),
    section 4; the form and the defaults are those of NVIDIA apex. SwAV and others train with it.

    Args:
        trust_coefficient: how far a step may move a tensor, relative to its norm, at lr 1.
        clip: only ever shorten a step, as in the second form above.
        eps: added to the denominator.
    """

    def __init__(
        self,
        *,
        trust_coefficient: Annotated[float, Gt(0)] = 0.001,
        clip: bool = False,
        eps: Annotated[float, Ge(0)] = 1e-8,
    ) -> None:
        self.trust_coefficient, self.clip, self.eps = trust_coefficient, clip, eps

    def attach(self, optimizer: torch.optim.Optimizer, *, sharded: bool = False) -> None:
        """From now on, rescale the gradients in place at the start of each `optimizer.step()`.

        `sharded`: the optimizer's tensors are this rank's parts of the parameters (FSDP), of which every rank has
        the same number in the same order; norms are then those of the whole, from the sum of squares over all ranks
        (one collective a group and step). A part may be empty.
        """
        held: dict[int, float] = {}

        def restore(optimizer: torch.optim.Optimizer, *_: object) -> None:
            for index, weight_decay in held.items():
                optimizer.param_groups[index]["weight_decay"] = weight_decay
            held.clear()

        def rescale(optimizer: torch.optim.Optimizer, *_: object) -> None:
            # A step that raised has left its weight decay here.
            restore(optimizer)
            for index, group in enumerate(optimizer.param_groups):
                held[index] = float(group["weight_decay"])
                params = [parameter for parameter in group["params"] if parameter.grad is not None]
                self._rescale(params, float(group["lr"]), held[index], sharded)
                group["weight_decay"] = 0.0

        optimizer.register_step_pre_hook(rescale)
        optimizer.register_step_post_hook(restore)

    @torch.no_grad()
    def _rescale(self, params: list[Tensor], lr: float, weight_decay: float, sharded: bool) -> None:
        """All tensors of a group at once: a few kernels on a GPU, and no wait for it."""
        grads = [_local(parameter.grad) for parameter in params if parameter.grad is not None]
        if not grads:
            return
        params = [_local(parameter) for parameter in params]
        norms = torch.stack([torch.stack(torch._foreach_norm(tensors)) for tensors in (params, grads)])
        p_norm, g_norm = distributed.all_reduce_sum(norms.square()).sqrt() if sharded else norms
        scale = self._scale(p_norm, g_norm, lr, weight_decay)
        if weight_decay:
            torch._foreach_add_(grads, params, alpha=weight_decay)
        torch._foreach_mul_(grads, list(scale.unbind()))

    def _scale(
        self, p_norm: Float[Tensor, "P"], g_norm: Float[Tensor, "P"], lr: float, weight_decay: float
    ) -> Float[Tensor, "P"]:
        """What multiplies g + wd p: for p = 0 that is g alone and stays; g = 0 stays although wd p was added."""
        rate = self.trust_coefficient * p_norm / (g_norm + weight_decay * p_norm + self.eps)
        if self.clip:
            rate = (rate / lr).clamp(max=1.0)
        rate = torch.where(p_norm == 0, torch.ones_like(rate), rate)
        return torch.where(g_norm == 0, torch.zeros_like(rate), rate)


def _local(tensor: Tensor) -> Tensor:
    """This rank's part of a DTensor (FSDP2), a view of it; any other tensor itself."""
    part = getattr(tensor, "to_local", None)  # importing DTensor takes half a second
    return cast(Tensor, part()) if callable(part) else tensor


LARCConf = config_for(LARC)

"""What all optimizers share: a learning rate that follows from the batch, and parameter groups."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Annotated, Optional

import torch
from annotated_types import Ge, Gt
from torch import nn

from ssltyped.optimizers.groups import GroupRules, param_groups
from ssltyped.types import Facts, Inference, Optimizer, Problem

BASE_BATCH_SIZE = 256


class LRScaling(Enum):
    """How the learning rate grows with the batch: in proportion, or with the square root."""

    LINEAR = "linear"
    SQRT = "sqrt"


def scaled_lr(base_lr: float, batch_size: int, base_batch_size: int, scaling: LRScaling) -> float:
    """base_lr x s with s = batch_size / base_batch_size, or the square root of s."""
    scale = batch_size / base_batch_size
    return base_lr * (scale if scaling is LRScaling.LINEAR else math.sqrt(scale))


class GroupedOptimizer(Optimizer):
    """An optimizer over parameter groups by role and decay, with a learning rate that follows from the batch.

        lr = base_lr x G / base_batch_size   (LINEAR: Goyal et al. 2017, arXiv 1706.02677, section 2.1)
        lr = base_lr x sqrt(G / base_batch_size)   (SQRT: SimCLR, Chen et al. 2020, arXiv 2002.05709, appendix B.1)

    with G images per optimizer step over all ranks, when base_lr is given. A parameter is decayed unless it is of
    a normalization layer and decay_norm is False, or is a bias and decay_bias is False, or is named in no_decay;
    that norms are not decayed and biases are is VISSL's default. Frozen parameters are left out. Calling it raises
    ValueError without lr, with nothing trainable, or for an entry of no_decay that no parameter has in its name.

    Args:
        lr: peak learning rate, that the schedule works towards; null: from base_lr.
        base_lr: learning rate for base_batch_size images per step; lr follows from it.
        base_batch_size: the number of images that base_lr is meant for.
        lr_scaling: how lr grows with the images per step.
        weight_decay: factor of the weights that is added to the gradient or, decoupled, subtracted from the weights.
        decay_norm: weights (and, with decay_bias, biases) of normalization layers are decayed too.
        decay_bias: biases are decayed.
        no_decay: parameters with one of these texts in their names are not decayed.
        head_lr: peak learning rate of the heads; null: that of the rest.
        head_weight_decay: weight decay of the heads; null: that of the rest.
    """

    def __init__(
        self,
        *,
        lr: Optional[Annotated[float, Gt(0)]],
        base_lr: Optional[Annotated[float, Gt(0)]],
        base_batch_size: Annotated[int, Gt(0)],
        lr_scaling: LRScaling,
        weight_decay: Annotated[float, Ge(0)],
        decay_norm: bool,
        decay_bias: bool,
        no_decay: Sequence[str],
        head_lr: Optional[Annotated[float, Gt(0)]],
        head_weight_decay: Optional[Annotated[float, Ge(0)]],
    ) -> None:
        self.lr: Optional[float] = lr
        self.base_lr, self.base_batch_size, self.lr_scaling = base_lr, base_batch_size, lr_scaling
        self.weight_decay, self.head_weight_decay, self.head_lr = weight_decay, head_weight_decay, head_lr
        self.decay_norm, self.decay_bias, self.no_decay = decay_norm, decay_bias, list(no_decay)

    def infer(self, facts: Facts) -> Iterable[Inference]:
        if self.base_lr is not None:
            images = facts.global_batch_size
            lr = scaled_lr(self.base_lr, images, self.base_batch_size, self.lr_scaling)
            scale = f"{images} images a step / {self.base_batch_size}"
            scale = f"({scale})" if self.lr_scaling is LRScaling.LINEAR else f"sqrt({scale})"
            yield Inference("lr", lr, f"base_lr {self.base_lr:g} x {scale} ({self.lr_scaling.value} scaling)")

    def problems(self, facts: Facts) -> Iterable[Problem]:
        if self.base_lr is not None:
            return
        if self.lr is None:
            meaning = f"the learning rate for {self.base_batch_size} images a step"
            yield Problem("lr", f"neither lr nor base_lr is set: give the peak learning rate, or base_lr, {meaning}")
        for field, used in (
            ("base_batch_size", self.base_batch_size != BASE_BATCH_SIZE),
            ("lr_scaling", self.lr_scaling is not LRScaling.LINEAR),
        ):
            if used:
                yield Problem(field, "has no effect without base_lr: give base_lr in place of lr, or leave it out")

    @abstractmethod
    def __call__(self, module: nn.Module) -> torch.optim.Optimizer: ...

    def groups(self, module: nn.Module) -> tuple[float, list[dict[str, object]]]:
        """lr, and a torch optimizer's parameters; the engine sets lr to the scheduled one x lr_scale."""
        lr = self.lr
        if lr is None:
            raise ValueError("lr is None: give the peak learning rate, or resolve the config first")
        rules = GroupRules(
            weight_decay=self.weight_decay,
            head_weight_decay=self.weight_decay if self.head_weight_decay is None else self.head_weight_decay,
            head_lr_scale=1.0 if self.head_lr is None else self.head_lr / lr,
            decay_norm=self.decay_norm,
            decay_bias=self.decay_bias,
            no_decay=self.no_decay,
        )
        return lr, [{**vars(group), "lr": lr * group.lr_scale} for group in param_groups(module, rules)]

"""The learning rate of an optimizer: given, or from the images of a step."""

import math
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Optional, Self

from annotated_types import Gt, Lt

from ssltyped.config import INFERRED, config_for
from ssltyped.types import Component, Facts, Inference, Problem

BASE_BATCH_SIZE = 256


class LRScaling(Enum):
    """How the learning rate grows with the batch: in proportion, or with the square root."""

    LINEAR = "linear"
    SQRT = "sqrt"


class Rate(Component):
    """The peak learning rate. With base_lr it follows from the batch,

        lr = base_lr x G / base_batch_size   (LINEAR: Goyal et al. 2017, arXiv 1706.02677, section 2.1)
        lr = base_lr x sqrt(G / base_batch_size)   (SQRT: SimCLR, Chen et al. 2020, arXiv 2002.05709, appendix B.1)

    with G images per optimizer step over all ranks. With layer_decay it falls towards the input: layer l of L in the
    trunk has lr x layer_decay^(L + 1 - l), where l is 0 for what is before the first layer (patches, tokens, stem),
    and what is outside the trunk has lr. BEiT (Bao et al. 2022, arXiv 2106.08254), appendix; MAE fine-tunes with 0.65
    to 0.75.

    Args:
        lr: peak learning rate, that the schedule works towards; null: from base_lr.
        base_lr: learning rate for base_batch_size images per step; lr follows from it.
        base_batch_size: the number of images that base_lr is meant for.
        lr_scaling: how lr grows with the images per step.
        layer_decay: factor of the learning rate from each layer of the trunk to the one before; null: all have lr.
    """

    def __init__(
        self,
        *,
        lr: Annotated[float, Gt(0)] = INFERRED,
        base_lr: Optional[Annotated[float, Gt(0)]] = None,
        base_batch_size: Annotated[int, Gt(0)] = BASE_BATCH_SIZE,
        lr_scaling: LRScaling = LRScaling.LINEAR,
        layer_decay: Optional[Annotated[float, Gt(0), Lt(1)]] = None,
    ) -> None:
        self.lr, self.base_lr, self.base_batch_size = lr, base_lr, base_batch_size
        self.lr_scaling, self.layer_decay = lr_scaling, layer_decay

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.base_lr is not None:
            images = facts.global_batch_size
            lr = scaled_lr(config.base_lr, images, config.base_batch_size, config.lr_scaling)
            scale = f"{images} images a step / {config.base_batch_size}"
            scale = f"({scale})" if config.lr_scaling is LRScaling.LINEAR else f"sqrt({scale})"
            rule = f"base_lr {config.base_lr:g} x {scale} ({config.lr_scaling.value} scaling)"
            yield Inference("lr", lr, rule, source="base_lr")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.base_lr is not None:
            return
        if config.lr is INFERRED:
            meaning = f"the learning rate for {config.base_batch_size} images a step"
            yield Problem("lr", f"neither lr nor base_lr is set: give the peak learning rate, or base_lr, {meaning}")
        for field, used in (
            ("base_batch_size", config.base_batch_size != BASE_BATCH_SIZE),
            ("lr_scaling", config.lr_scaling is not LRScaling.LINEAR),
        ):
            if used:
                yield Problem(field, "has no effect without base_lr: give base_lr in place of lr, or leave it out")


def scaled_lr(base_lr: float, batch_size: int, base_batch_size: int, scaling: LRScaling) -> float:
    """base_lr x s with s = batch_size / base_batch_size, or the square root of s."""
    scale = batch_size / base_batch_size
    return base_lr * (scale if scaling is LRScaling.LINEAR else math.sqrt(scale))


def rate_of(optimizer: object) -> object:
    """The part of an optimizer's config that has `lr`: its `rate`, or that of a custom one itself."""
    part: object = getattr(optimizer, "rate", optimizer)
    return part


def lr_path(optimizer: object) -> str:
    """Where an optimizer's config has its learning rate."""
    return "lr" if rate_of(optimizer) is optimizer else "rate.lr"


def peak_lr(optimizer: object) -> Optional[float]:
    """The learning rate of an optimizer's config; None while it is not known, or if a custom one has none."""
    lr: Optional[float] = getattr(rate_of(optimizer), "lr", None)
    return lr


RateConf = config_for(Rate)

"""What all optimizers share: a learning rate that follows from the batch, and parameter groups."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Annotated, Optional, Self, cast

import torch
from annotated_types import Ge, Gt, Lt
from torch import nn

from ssltyped import config
from ssltyped.optimizers.groups import GroupRules, PerHead, param_groups
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.zero import MakeOptimizer, Zero, local
from ssltyped.types import Component, Facts, Inference, Optimizer, Problem, Scheduler

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
    a normalization layer and decay_norm is False, or is a bias and decay_bias is False, or another one of one
    dimension and decay_vector is False, or is named in no_decay; that norms are not decayed and the rest is, is
    VISSL's default. Frozen parameters are left out.

    With layer_decay the learning rate falls towards the input: layer l of L in the trunk has lr x layer_decay^(L + 1
    - l), where l is 0 for what is before the first layer (patches, tokens, stem), and what is outside the trunk has
    lr. BEiT (Bao et al. 2022, arXiv 2106.08254), appendix; MAE fine-tunes with 0.65 to 0.75.

    Calling it raises ValueError without lr, with nothing trainable, for an entry of no_decay that no parameter has
    in its name, for another number of per_head than heads, or for a trunk without layers when layer_decay is given.

    Args:
        lr: peak learning rate, that the schedule works towards; null: from base_lr.
        base_lr: learning rate for base_batch_size images per step; lr follows from it.
        base_batch_size: the number of images that base_lr is meant for.
        lr_scaling: how lr grows with the images per step.
        weight_decay: factor of the weights that is added to the gradient or, decoupled, subtracted from the weights.
        weight_decay_schedule: weight decay over the run, whose highest value is weight_decay; null: it is constant.
        decay_norm: weights (and, with decay_bias, biases) of normalization layers are decayed too.
        decay_bias: biases are decayed.
        decay_vector: other parameters of one dimension (scales of layers, g of weight normalization) are decayed.
        no_decay: parameters with one of these texts in their names are not decayed.
        head_lr: peak learning rate of the heads; null: that of the rest.
        head_weight_decay: weight decay of the heads; null: that of the rest.
        per_head: what each head has of its own, one entry a head; empty: nothing.
        layer_decay: factor of the learning rate from each layer of the trunk to the one before; null: all have lr.
        larc: adapt the learning rate of each tensor; null: do not.
        zero: share the state out over the ranks (ZeRO); null: every rank holds all of it.
    """

    def __init__(
        self,
        *,
        lr: Optional[Annotated[float, Gt(0)]],
        base_lr: Optional[Annotated[float, Gt(0)]],
        base_batch_size: Annotated[int, Gt(0)],
        lr_scaling: LRScaling,
        weight_decay: Annotated[float, Ge(0)],
        weight_decay_schedule: Optional[Scheduler],
        decay_norm: bool,
        decay_bias: bool,
        decay_vector: bool,
        no_decay: Sequence[str],
        head_lr: Optional[Annotated[float, Gt(0)]],
        head_weight_decay: Optional[Annotated[float, Ge(0)]],
        per_head: Sequence[PerHead],
        layer_decay: Optional[Annotated[float, Gt(0), Lt(1)]],
        larc: Optional[LARC],
        zero: Optional[Zero],
    ) -> None:
        self.lr: Optional[float] = lr
        self.base_lr, self.base_batch_size, self.lr_scaling = base_lr, base_batch_size, lr_scaling
        self.weight_decay, self.weight_decay_schedule = weight_decay, weight_decay_schedule
        self.decay_norm, self.decay_bias, self.decay_vector = decay_norm, decay_bias, decay_vector
        self.no_decay, self.per_head = list(no_decay), list(per_head)
        self.head_lr, self.head_weight_decay, self.layer_decay = head_lr, head_weight_decay, layer_decay
        self.larc, self.zero = larc, zero

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.base_lr is not None:
            images = facts.global_batch_size
            lr = scaled_lr(config.base_lr, images, config.base_batch_size, config.lr_scaling)
            scale = f"{images} images a step / {config.base_batch_size}"
            scale = f"({scale})" if config.lr_scaling is LRScaling.LINEAR else f"sqrt({scale})"
            yield Inference("lr", lr, f"base_lr {config.base_lr:g} x {scale} ({config.lr_scaling.value} scaling)")
        if config.weight_decay_schedule is not None:
            yield from _inferred_schedule(config.weight_decay_schedule, config.weight_decay, facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from _schedule_problems(config.weight_decay_schedule, config.weight_decay)
        if config.base_lr is not None:
            return
        if config.lr is None:
            meaning = f"the learning rate for {config.base_batch_size} images a step"
            yield Problem("lr", f"neither lr nor base_lr is set: give the peak learning rate, or base_lr, {meaning}")
        for field, used in (
            ("base_batch_size", config.base_batch_size != BASE_BATCH_SIZE),
            ("lr_scaling", config.lr_scaling is not LRScaling.LINEAR),
        ):
            if used:
                yield Problem(field, "has no effect without base_lr: give base_lr in place of lr, or leave it out")

    @abstractmethod
    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        """The class of torch optimizer that steps, and its options beside lr and weight_decay."""

    def __call__(self, module: nn.Module) -> torch.optim.Optimizer:
        lr, groups = self.groups(module)
        make, options = self.torch_optimizer()
        options = {"lr": lr, **options}
        optimizer = make(groups, **options) if self.zero is None else self.zero.shard(make, groups, options)
        if self.larc is not None:
            self.larc.attach(local(optimizer))
        return optimizer

    def groups(self, module: nn.Module) -> tuple[float, list[dict[str, object]]]:
        """lr, and a torch optimizer's parameters.

        The engine sets a group's lr to the scheduled one x `lr_scale`, and, with a weight_decay_schedule, its
        weight_decay to the scheduled one x `wd_scale`.
        """
        lr = self.lr
        if lr is None:
            raise ValueError("lr is None: give the peak learning rate, or resolve the config first")
        rules = GroupRules(
            weight_decay=self.weight_decay,
            head_weight_decay=self.weight_decay if self.head_weight_decay is None else self.head_weight_decay,
            head_lr_scale=1.0 if self.head_lr is None else self.head_lr / lr,
            decay_norm=self.decay_norm,
            decay_bias=self.decay_bias,
            decay_vector=self.decay_vector,
            no_decay=self.no_decay,
            per_head=self.per_head,
            layer_decay=self.layer_decay,
        )
        peak = self.weight_decay or 1.0
        return lr, [
            {**vars(group), "lr": lr * group.lr_scale, "wd_scale": group.weight_decay / peak}
            for group in param_groups(module, rules)
        ]


def _inferred_schedule(schedule: object, weight_decay: float, facts: Facts) -> Iterator[Inference]:
    """What the schedule infers from a learning rate, from weight_decay instead; the outer part's rules come first."""
    instead = dataclasses.replace(facts, lr=weight_decay, base_lr_of_one_node=0.0)
    for path, part in config.walk(schedule, "weight_decay_schedule"):
        kind = config.part_of(part).kind
        if issubclass(kind, Component):
            for inference in kind.infer(cast(Component, part), instead):
                rule = f"{inference.rule}, here with weight_decay {weight_decay:g} for it"
                yield dataclasses.replace(inference, field=config.join(path, inference.field), rule=rule)


def _schedule_problems(schedule: object, weight_decay: float) -> Iterator[Problem]:
    """weight_decay is what the groups' own decays are relative to, so it has to be the schedule's peak."""
    peak = None if schedule is None else _peak(schedule)
    if peak is not None and not math.isclose(peak, weight_decay, rel_tol=0.01):
        message = f"got {weight_decay:g}, but weight_decay_schedule rises to {peak:g}"
        yield Problem(
            "weight_decay", f"{message}: set weight_decay={peak:g}, or leave the schedule's values out (null)"
        )
    elif peak == 0:
        yield Problem("weight_decay_schedule", "has no effect with weight_decay 0: leave it out, or give weight_decay")


def _peak(schedule: object) -> Optional[float]:
    """The highest value of a schedule's config; None for one that cannot be built, which its own problems say."""
    try:
        built = config.build(schedule)
        assert isinstance(built, Scheduler)
        return max(built(index / 2000) for index in range(2000))
    except ValueError:
        return None

"""Momentum teachers: a second model whose weights are an average of the student's past ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Optional

import torch
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.config.component import AnyConfig
from ssltyped.losses.shared_pass import module_of
from ssltyped.types import Carry, Facts, Inference, Loss, Model, Moment, Outputs, Problem

LEFT = 0.01
"""What may be left of a teacher's first weights at the end of a run."""


PAPERS = 0.996
"""Where m starts in BYOL and DINO, and in what came after them."""


class MomentumTeacher(nn.Module):
    """theta_t <- m theta_t + (1 - m) theta_s, for every parameter and for BatchNorm's running mean and variance.

    Starts as a copy of the student (Tarvainen and Valpola 2017, arXiv 1703.01780, section 2). It takes no gradient.
    Counters, such as BatchNorm's number of batches, are copied.

    Args:
        student: the model to start from.
        batch_statistics: BatchNorm uses the statistics of the teacher's own batch, as MoCo's key encoder does; else
            the averaged ones. Dropout and drop path are off in any case.
    """

    def __init__(self, student: Model, *, batch_statistics: bool) -> None:
        super().__init__()
        self.model = copy.deepcopy(module_of(student))
        self.model.requires_grad_(False)
        self.batch_statistics = batch_statistics
        self.train()

    def train(self, mode: bool = True) -> MomentumTeacher:
        super().train(False)
        self.model.train(mode and self.batch_statistics)  # what the student keeps in eval mode stays in it
        for module in self.model.modules():
            if not isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False
        return self

    @torch.no_grad()
    def forward(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = MappingProxyType({}),
    ) -> Outputs:
        outputs: Outputs = self.model(views, masks=masks, heads=heads, features=features)
        return outputs

    @property
    def product(self) -> Model:
        """The teacher itself, as what a method is for."""
        assert isinstance(self.model, Model)
        return self.model

    @torch.no_grad()
    def update(self, student: Model, momentum: float) -> None:
        """Move towards the student; a few kernels for all parameters."""
        ours, theirs = tensors_of(self.model), tensors_of(module_of(student))
        averaged = [name for name in ours if ours[name].is_floating_point()]
        torch._foreach_lerp_([ours[name] for name in averaged], [theirs[name] for name in averaged], 1.0 - momentum)
        for name in ours.keys() - set(averaged):
            ours[name].copy_(theirs[name])


class TaughtLoss(Loss):
    """A method whose momentum teacher is what it is for; m rises from `momentum` to 1 along a cosine."""

    teacher: MomentumTeacher
    momentum: float

    @classmethod
    def infer(cls, config: AnyConfig, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from inferred_momentum(PAPERS, facts, rises=True)

    @classmethod
    def warnings(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        yield from slow_teacher("momentum", config.momentum, facts, rises=True)

    def setup(self, model: Model) -> None:
        self.teacher = MomentumTeacher(model, batch_statistics=True)

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        self.teacher.update(model, cosine_momentum(self.momentum, moment.progress_after))

    def product(self, model: Model) -> Model:
        return self.teacher.product


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once: a state dict names a tied one twice, which would move it twice."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


@torch.no_grad()
def move_center(center: Tensor, means: Sequence[Tensor], momentum: float) -> None:
    """c <- m c + (1 - m) mean of the batches' means over the world, once for all batches of a step."""
    mean = distributed.all_reduce_mean(torch.stack(list(means)).mean(dim=0))
    center.lerp_(mean.to(center.dtype), 1 - momentum)


def still_center(field: str, momentum: float) -> Iterable[Problem]:
    """A warning: the centre stays where it starts."""
    if momentum == 1:
        message = "got 1: the centre never moves, and without it all images get one prototype"
        yield Problem(field, f"{message} (DINO, Caron et al. 2021, section 5.3); 0.9 is usual")


def slow_teacher(field: str, momentum: float, facts: Facts, *, rises: bool = False) -> Iterable[Problem]:
    """A warning: at the end of the run more than half of the teacher is what it started as.

    What is left of the first weights is the product of all m, which is m^steps, or, where m rises to 1 along a cosine
    (`cosine_momentum`, whose 1 - m is half of the first one on average), about exp(-(1 - m) steps / 2).
    """
    if facts.steps is None or momentum == 1.0:
        return
    left = math.exp(-(1 - momentum) * facts.steps / 2) if rises else momentum**facts.steps
    if left > 0.5:
        fitting = fitting_momentum(facts.steps, rises=rises)
        message = f"with {momentum:g}, {100 * left:.0f} % of the teacher is still its start after {facts.steps} steps"
        yield Problem(field, f"{message}: about {fitting:.3g} leaves 1 %")


def fitting_momentum(steps: int, *, rises: bool) -> float:
    """The m that leaves 1 % of the first weights, in the terms of `slow_teacher`."""
    return float(LEFT ** ((2 if rises else 1) / steps))


def inferred_momentum(highest: float, facts: Facts, *, rises: bool = False) -> Iterable[Inference]:
    """`momentum` where a recipe leaves it to inference: the fitting one, at most `highest`."""
    if facts.steps is not None:
        rule = f"leaves {LEFT:.0%} of the first weights after {facts.steps:,} steps; at most {highest:g}"
        fitting = min(highest, round(fitting_momentum(facts.steps, rises=rises), 4))
        yield Inference("momentum", fitting, rule, default=True)


def cosine_momentum(base: float, progress: float) -> float:
    """1 - (1 - base) (cos(pi progress) + 1) / 2: from `base` up to 1 (BYOL, Grill et al. 2020, section 3.3)."""
    return 1.0 - 0.5 * (1.0 - base) * (math.cos(math.pi * progress) + 1.0)

"""What all optimizers share: a learning rate, parameter groups, schedules beside that of the learning rate."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple, Optional, Self, cast

import torch
from annotated_types import Ge
from torch import nn

from ssltyped import config as configs
from ssltyped.config import INFERRED
from ssltyped.optimizers.decay import Decay
from ssltyped.optimizers.groups import Group, param_groups
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.schedules import wrong_value
from ssltyped.optimizers.zero import MakeOptimizer, Zero, local
from ssltyped.types import Component, Facts, Inference, Optimizer, Problem, Scheduler


class GroupedOptimizer(Optimizer):
    """An optimizer over parameter groups, with a learning rate that may follow from the batch.

    Frozen parameters are left out. Calling it raises ValueError with nothing trainable, for names in `decay.exclude`
    and `groups` that nothing has, for a parameter in two groups, or for a trunk without layers if
    `rate.layer_decay` is given.

    Args:
        rate: the learning rate.
        weight_decay: factor of the weights that is added to the gradient or, decoupled, subtracted from the weights.
        decay: which parameters it moves, and how it changes over the run.
        groups: parts of the model or of the loss that learn in their own way.
        larc: adapt the learning rate of each tensor; null: do not.
        zero: share the state out over the ranks (ZeRO); null: every rank holds all of it.
    """

    def __init__(
        self,
        *,
        rate: Rate,
        weight_decay: Annotated[float, Ge(0)],
        decay: Decay,
        groups: Sequence[Group],
        larc: Optional[LARC],
        zero: Optional[Zero],
    ) -> None:
        self.rate, self.weight_decay, self.decay, self.groups = rate, weight_decay, decay, list(groups)
        self.larc, self.zero = larc, zero

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        for own in cls._scheduled(config, facts):
            yield from own.inferences(facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        for own in cls._scheduled(config, facts):
            yield from own.problems()

    @classmethod
    def _scheduled(cls, config: Self, facts: Facts) -> Iterator[_Scheduled]:
        """The schedules beside that of the learning rate whose peak is known."""
        if config.decay.schedule is not None:
            yield _Scheduled("decay.schedule", config.decay.schedule, "weight_decay", config.weight_decay, 0.0)
        for number, group in enumerate(config.groups):
            if group.schedule is not None and config.rate.lr is not INFERRED:
                peak, node = Group.peak(group, config.rate.lr), facts.base_lr_of_one_node
                start = None if node is None else node * peak / config.rate.lr
                path = f"groups.{number}"
                yield _Scheduled(f"{path}.schedule", group.schedule, f"{path}.lr", peak, start, group.lr_scale)

    @abstractmethod
    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        """The class of torch optimizer that steps, and its options beside lr and weight_decay."""

    def __call__(self, module: nn.Module) -> torch.optim.Optimizer:
        groups = param_groups(
            module, rate=self.rate, weight_decay=self.weight_decay, decay=self.decay, groups=self.groups
        )
        make, options = self.torch_optimizer()
        options = {"lr": self.rate.lr, **options}
        optimizer = make(groups, **options) if self.zero is None else self.zero.shard(make, groups, options)
        if self.larc is not None:
            self.larc.attach(local(optimizer))
        return optimizer

    @property
    def schedules(self) -> Mapping[str, Scheduler]:
        decay = {} if self.decay.schedule is None else {"weight_decay": self.decay.schedule}
        return decay | {group.name: group.schedule for group in self.groups if group.schedule is not None}


class _Scheduled(NamedTuple):
    """A schedule's config, its path, and the value at its peak, which is `scale` times that of `field`."""

    path: str
    schedule: Scheduler
    field: str
    peak: float
    on_one_node: Optional[float]
    scale: float = 1.0

    def inferences(self, facts: Facts) -> Iterator[Inference]:
        """What the schedule infers from a learning rate, from this value instead; an outer part's rules come first."""
        instead = dataclasses.replace(facts, lr=self.peak, base_lr_of_one_node=self.on_one_node)
        for path, part in configs.walk(self.schedule, self.path):
            kind = configs.part_of(part).kind
            if issubclass(kind, Component):
                for inference in kind.infer(cast(Component, part), instead):
                    rule = f"{inference.rule}, here with {self.field} {self.peak:g} for it"
                    yield dataclasses.replace(inference, field=configs.join(path, inference.field), rule=rule)

    def problems(self) -> Iterator[Problem]:
        """What other values are relative to has to be the schedule's highest one."""
        try:
            built = configs.build(self.schedule)
            assert isinstance(built, Scheduler)
        except ValueError:  # it cannot be built, which its own problems say
            return
        if wrong := wrong_value(built):
            yield Problem(self.path, wrong)
            return
        highest = built.highest()
        if not math.isclose(highest, self.peak, rel_tol=0.01):
            message = f"got {self.peak:g}, but {self.path} rises to {highest:g}"
            remedy = f"set {self.field}={highest / self.scale:g}, or leave the schedule's values out (null)"
            yield Problem(self.field, f"{message}: {remedy}")
        elif highest == 0:
            yield Problem(self.path, f"has no effect with {self.field} 0: leave it out, or give {self.field}")

"""ZeRO, stage 1: each rank keeps and updates a share of the optimizer's state."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import cast

import torch

from ssltyped import distributed
from ssltyped.config import config_for
from ssltyped.types import Component, Facts, Problem

MakeOptimizer = Callable[..., torch.optim.Optimizer]
"""A torch optimizer's class: parameter groups, then its options by name."""


class Backend(Enum):
    """Whose implementation: torch's ZeroRedundancyOptimizer, or fairscale's OSS (an extra to install)."""

    TORCH = "torch"
    FAIRSCALE = "fairscale"


class Zero(Component):
    """Optimizer state in W shares: a rank updates its parameters and then sends them to the others.

    The result of a step is that of the optimizer alone; each rank holds about 1 / W of the state (moments). All
    parameters have one dtype. Before `optimizer.state_dict()` is read on rank 0 every rank calls `consolidate`;
    what it gives is complete, and loads on any number of ranks, with or without ZeRO. On one rank nothing is
    shared out. Rajbhandari et al. 2020 (arXiv 1910.02054), section 5.1 (optimizer state partitioning).

    Args:
        backend: whose implementation.
    """

    def __init__(self, *, backend: Backend = Backend.TORCH) -> None:
        self.backend = backend

    def problems(self, facts: Facts) -> Iterable[Problem]:
        if self.backend is Backend.FAIRSCALE and importlib.util.find_spec("fairscale") is None:
            yield Problem("backend", "fairscale is not installed: pip install 'ssltyped[fairscale]', or take torch")

    def shard(
        self, make: MakeOptimizer, groups: Sequence[Mapping[str, object]], options: Mapping[str, object]
    ) -> torch.optim.Optimizer:
        """An optimizer over this rank's share of the groups, that has all of them in `param_groups`."""
        if distributed.world_size() == 1:
            return make(groups, **options)
        if self.backend is Backend.TORCH:
            module, name, inner = "torch.distributed.optim", "ZeroRedundancyOptimizer", "optimizer_class"
        else:
            module, name, inner = "fairscale.optim", "OSS", "optim"
        sharded = cast(MakeOptimizer, getattr(importlib.import_module(module), name))
        return sharded(groups, **{inner: make}, **options)


def local(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer that steps on this rank: of a shared-out one that of this rank's share, else itself."""
    inner = getattr(optimizer, "optim", None)
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer


def consolidate(optimizer: torch.optim.Optimizer) -> None:
    """Bring the state of all ranks to rank 0 (collective), whose `state_dict()` is then complete.

    Nothing to do for an optimizer that is not shared out.
    """
    gather = getattr(optimizer, "consolidate_state_dict", None)
    if local(optimizer) is not optimizer and callable(gather):
        gather(0)


ZeroConf = config_for(Zero)

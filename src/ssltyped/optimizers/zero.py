"""ZeRO, stage 1: each rank keeps and updates a share of the optimizer's state."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Self, cast

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
    parameters have one dtype. What `full_state` gives on rank 0 is complete: it loads on any number of ranks,
    with or without ZeRO; `optimizer.state_dict()` raises RuntimeError before it. On one rank nothing is shared out.
    Rajbhandari et al. 2020 (arXiv 1910.02054), section 5.1 (optimizer state partitioning).

    Args:
        backend: whose implementation.
    """

    def __init__(self, *, backend: Backend = Backend.TORCH) -> None:
        self.backend = backend

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.backend is Backend.FAIRSCALE and importlib.util.find_spec("fairscale") is None:
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


def full_state(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    """`optimizer.state_dict()`, of all ranks on rank 0, of its own share on the others (collective, if shared out)."""
    gather = getattr(optimizer, "consolidate_state_dict", None)
    if local(optimizer) is optimizer or not callable(gather):
        return optimizer.state_dict()
    gather(0)
    return optimizer.state_dict() if distributed.is_main() else own_state(optimizer)


def own_state(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    """What this rank holds, without asking the others: `optimizer.state_dict()` of one that is not shared out."""
    return local(optimizer).state_dict()


ZeroConf = config_for(Zero)

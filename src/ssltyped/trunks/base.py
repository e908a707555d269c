"""What all trunks share: named features on the way through the network, activation checkpointing."""

import difflib
import itertools
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple, Optional

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ssltyped.config.component import AnyConfig
from ssltyped.trunks.input import Input
from ssltyped.types import Facts, Features, Problem, Trunk


class Stage(NamedTuple):
    """A step through a network; `feature` is the name of what it gives, None within a named part."""

    feature: Optional[str]
    block: Callable[[Tensor], Tensor]


class StagedTrunk(Trunk):
    """A trunk that is a chain of blocks, some of whose outputs are named features.

    A subclass gives `stages` and `feature_dims`, with the same names in the same order. `forward` walks the chain
    as far as the last feature that was asked for. One whose features are made from outputs of blocks (class tokens,
    several of them side by side) overrides `forward` and calls `input.see` and `walk`.

    With `checkpoint_splits` = n the blocks up to the last requested feature are cut into n runs of (nearly) equally
    many. In training all but the last keep only their input and requested features, and compute the rest again in the
    backward pass (Chen et al. 2016, arXiv 1604.06174); the last run's activations are needed right away, so computing
    it again would save nothing. Results are the same: random numbers are drawn again as they were, and running
    statistics move once.

    Args:
        input: the images as it takes them.
    """

    def __init__(self, *, input: Input) -> None:
        super().__init__()
        self.input = input

    @classmethod
    def problems(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        return cls._faults(config)

    def _faults(self) -> Iterable[Problem]:
        """What the types of the constructor cannot say, of a trunk or of its config."""
        return ()

    @abstractmethod
    def stages(self) -> Iterable[Stage]:
        """The blocks in network order, small enough that a few of them make a run of activation checkpointing."""

    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        check_names(features, self.feature_dims)
        found = self.walk(self.input.see(images), list(self.stages()), set(features))
        return [found[name] for name in features]

    def walk(self, x: Tensor, stages: Sequence[Stage], wanted: Collection[str]) -> dict[str, Tensor]:
        """The outputs of the stages with these names; no stage after the last of them is run."""
        last = max((i for i, stage in enumerate(stages) if stage.feature in wanted), default=-1)
        stages = stages[: last + 1]
        recomputing = self.input.checkpoint_splits > 1 and self.training and torch.is_grad_enabled()
        *earlier, final = cut(stages, self.input.checkpoint_splits if recomputing else 1)
        found: dict[str, Tensor] = {}
        for run in earlier:
            x, some = checkpoint(_walked, x, run, wanted, use_reentrant=False, context_fn=self._contexts)
            found |= some
        return found | _walked(x, final, wanted)[1]

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What the first pass through a run and the second one happen in."""
        return nullcontext(), statistics_kept(self)


def _walked(x: Tensor, stages: Sequence[Stage], wanted: Collection[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of the last stage, and those with these names."""
    found: dict[str, Tensor] = {}
    for stage in stages:
        x = stage.block(x)
        if stage.feature in wanted and stage.feature is not None:
            found[stage.feature] = x
    return x, found


def cut(stages: Sequence[Stage], count: int) -> list[Sequence[Stage]]:
    """`count` runs (at most one a stage, at least one) of lengths that differ by at most 1, the shorter ones first."""
    count = max(1, min(count, len(stages)))
    ends = [len(stages) * i // count for i in range(count + 1)]
    return [stages[start:end] for start, end in itertools.pairwise(ends)]


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Within it, batch norms in training compute as ever and leave their running statistics as they are.

    Switching the statistics off would change what autograd stores, and a second pass must store the same as the first.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def check_names(wanted: Iterable[str], known: Mapping[str, int]) -> None:
    """Raises ValueError for the first name that is no feature, with the nearest that is."""
    for name in sorted(set(wanted).difference(known)):
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown feature {name!r}: did you mean {nearest!r}? There are {', '.join(known)}")

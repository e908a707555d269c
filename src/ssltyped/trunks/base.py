"""What all trunks share: the images they take, named features on the way through, activation checkpointing."""

import difflib
import itertools
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from enum import Enum
from typing import Annotated, NamedTuple, Optional, Self

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ssltyped.config import config_for, refuse
from ssltyped.config.component import AnyConfig
from ssltyped.types import Component, Facts, Features, Problem, Trunk


class InputColor(Enum):
    """What the network sees of an image; images themselves are RGB, or LAB where a transform made them so.

    `RGB`: all channels as they come. `BGR`: the three channels in reverse order, for weights that were trained so.
    `LAB`: of L, A and B only L, so that the first convolution has one input channel (Zhang et al. 2016,
    arXiv 1603.08511, where the colours are what is predicted).
    """

    RGB = "rgb"
    BGR = "bgr"
    LAB = "lab"


class Input(Component):
    """Images as a trunk takes them. Raises ValueError for an order of three channels of images that have others.

    Args:
        channels: channels of an image; with BGR and LAB there are 3.
        color: which channels the network sees, and in which order.
        checkpoint_splits: number of runs of blocks for activation checkpointing (see `StagedTrunk`); 0 keeps all
            activations. At most every block is a run.
    """

    def __init__(
        self,
        *,
        channels: Annotated[int, Gt(0)] = 3,
        color: InputColor = InputColor.RGB,
        checkpoint_splits: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.channels, self.color, self.checkpoint_splits = channels, color, checkpoint_splits
        refuse(self._faults())

    @property
    def seen_channels(self) -> int:
        """Input channels of the first layer."""
        return 1 if self.color is InputColor.LAB else self.channels

    def see(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c H W"]:
        """The channels of the images that the network works on."""
        if self.color is InputColor.BGR:
            return images.flip(1)
        return images[:, :1] if self.color is InputColor.LAB else images

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.num_channels not in (None, config.channels):
            yield Problem("channels", f"got {config.channels}, but data.mean has {facts.num_channels} values")
        yield from Input._faults(config)

    def _faults(self) -> Iterator[Problem]:
        """What the types of the constructor cannot say; self may be a config."""
        if self.color is not InputColor.RGB and self.channels != 3:
            yield Problem("color", f"{self.color.value.upper()} is an order of 3 channels; channels is {self.channels}")
        if self.checkpoint_splits == 1:
            yield Problem("checkpoint_splits", "1 has no effect: the last run of blocks is never recomputed; 0 is off")


InputConf = config_for(Input)


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
            x, some = checkpoint(
                _walked, x, run, wanted, use_reentrant=False, context_fn=lambda: (nullcontext(), statistics_kept(self))
            )
            found |= some
        return found | _walked(x, final, wanted)[1]


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

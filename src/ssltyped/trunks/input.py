"""What every trunk is told about its images: channels, colours, and how much of the way through it is kept."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Annotated, Self

from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from ssltyped.config import config_for, refuse
from ssltyped.types import Component, Facts, Problem


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

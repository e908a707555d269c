"""The values that flow: index -> Image -> Views -> Batch -> Outputs -> StepOutput."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Optional, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from torch import Tensor, nn

Image: TypeAlias = UInt8[Tensor, "C _ _"]
"""A decoded image, C x H x W: RGB (or N channels), 0 to 255; the memory behind it is H W C, which OpenCV works on."""

Random: TypeAlias = np.random.Generator
"""The source of randomness that a transform is handed; it has no other."""

Features: TypeAlias = list[Tensor]
"""One tensor a requested feature name, in the requested order."""

Target: TypeAlias = Int64[Tensor, "B"] | Shaped[Tensor, "B K"]
"""The class of each image; or a row each: shares that sum to 1, or 1, 0 and -1 (there, not there, unknown)."""


@dataclasses.dataclass(frozen=True)
class Views:
    """The augmented images of one source image (they may differ in size), and what was decided in making them.

    Args:
        images: one a view
        label: the class of a pretext task, such as which rotation; it takes the place of the image's own
        masks: one a view, which of its patches are masked, or None; empty: no view has a mask
    """

    images: Sequence[Image]
    label: Optional[int] = None
    masks: Sequence[Optional[Bool[np.ndarray, "_ _"]]] = ()


@dataclasses.dataclass(frozen=True)
class Batch:
    """What the pipeline yields and a loss sees: V views of the same B images.

    `views[v][b]` is view v of image `index[b]`; views of equal size may share one pass through the trunk.
    `masks[v][b]` says which of its patches are masked; it is None for a view without a mask, empty if all are.
    """

    views: tuple[Shaped[Tensor, "B C _ _"], ...]
    index: Int64[Tensor, "B"]
    label: Optional[Target] = None
    masks: tuple[Optional[Bool[Tensor, "B _ _"]], ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; the host does not wait for copies from pinned memory."""
        label = None if self.label is None else self.label.to(device, non_blocking=True)
        views = tuple(view.to(device, non_blocking=True) for view in self.views)
        masks = tuple(None if mask is None else mask.to(device, non_blocking=True) for mask in self.masks)
        return Batch(views=views, index=self.index.to(device, non_blocking=True), label=label, masks=masks)


Carry: TypeAlias = Mapping[str, Tensor]
"""What a step hands to the update that follows: detached tensors by name."""


@dataclasses.dataclass(frozen=True)
class Moment:
    """When a step happens. The micro-batches of one optimizer step share it.

    Args:
        step: optimizer steps done before this one
        steps: of the whole run
        steps_per_epoch: of one pass over the images
    """

    step: int
    steps: int
    steps_per_epoch: int

    @property
    def epoch(self) -> int:
        """The pass that the step belongs to, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def progress(self) -> float:
        """Share of the run that is done before the step, in [0, 1)."""
        return self.step / self.steps

    @property
    def progress_after(self) -> float:
        """Share of the run that is done with the step, in (0, 1]."""
        return (self.step + 1) / self.steps


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model makes of some views, in one pass: rows ordered [all B of view 0; all B of view 1; ...].

    Args:
        heads: the outputs of each head that was asked for, by its name; most heads have one
        features: the features of the trunk that were read, by name; "patches.res5" where the data makes several inputs
    """

    heads: Mapping[str, tuple[Tensor, ...]]
    features: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)

    def all_of(self, head: str) -> tuple[Tensor, ...]:
        """All outputs of a head. Raises ValueError if it is not there."""
        if head not in self.heads:
            raise ValueError(f"there is no output of a head {head!r}; there are {', '.join(self.heads) or 'none'}")
        return self.heads[head]

    def of(self, head: str) -> Tensor:
        """The only output of a head. Raises ValueError if it has several, or is not there."""
        outputs = self.all_of(head)
        if len(outputs) != 1:
            raise ValueError(f"the head {head!r} has {len(outputs)} outputs, where exactly one is read")
        return outputs[0]


@dataclasses.dataclass(frozen=True)
class LossRange:
    """What a loss can be, and what it is for outputs that say nothing.

    Args:
        lowest: it is never below
        highest: it is never above, or not while all is well
        uniform: its value if the outputs are the same whatever the image, such as log K of a softmax over K
        remedy: what to do where it leaves the range
    """

    lowest: float = 0.0
    highest: float = math.inf
    uniform: Optional[float] = None
    remedy: str = ""

    def __add__(self, other: LossRange) -> LossRange:
        """Of the sum of two losses."""
        both = None if self.uniform is None or other.uniform is None else self.uniform + other.uniform
        remedy = self.remedy or other.remedy
        return LossRange(self.lowest + other.lowest, self.highest + other.highest, both, remedy)

    def __mul__(self, weight: float) -> LossRange:
        """Of a loss that is multiplied by a positive weight."""
        uniform = None if self.uniform is None else weight * self.uniform
        return LossRange(weight * self.lowest, weight * self.highest, uniform, self.remedy)


@dataclasses.dataclass(frozen=True)
class Signals:
    """What only the method knows of a step, and a callback may watch: references, without gradient; nothing is copied.

    Args:
        targets: of each set of prototypes, what this rank's images are taught: rows of shares that sum to 1
        taught: pairs of outputs for the same images, row by row: the teacher's, and the student's
        centred: the teacher's outputs for this rank's images, and the centre that is taken from them
        teachers: momentum teachers, each of which follows the student's weights at a distance
        memories: queues and banks, each with how many of its rows (on this rank) the update of this batch will write
    """

    targets: tuple[Float[Tensor, "_ _"], ...] = ()
    taught: tuple[tuple[Float[Tensor, "_ _"], Float[Tensor, "_ _"]], ...] = ()
    centred: tuple[tuple[Float[Tensor, "_ K"], Float[Tensor, "1 K"]], ...] = ()
    teachers: tuple[nn.Module, ...] = ()
    memories: tuple[tuple[Float[Tensor, "_ _"], int], ...] = ()

    def __add__(self, other: Signals) -> Signals:
        """Of two methods at once."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))
        return Signals(*(ours + theirs for ours, theirs in pairs))


@dataclasses.dataclass(frozen=True)
class StepOutput:
    """What one step of a method gives.

    Args:
        loss: to differentiate
        logs: what to log beside it, detached scalars
        carry: what `Loss.update` needs of this batch
        expected: what the loss can be: a run that leaves it, or stays where outputs say nothing, is told; None: unknown
        signals: what else callbacks may watch of the method
        features: the trunk's features of the step's first pass, detached; the engine fills it in, for callbacks
        outputs: what each head gave in that pass, likewise; both are there while a callback `reads` features
    """

    loss: Float[Tensor, ""]
    logs: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    carry: Carry = dataclasses.field(default_factory=dict)
    expected: Optional[LossRange] = None
    signals: Signals = Signals()  # frozen
    features: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    outputs: Mapping[str, tuple[Tensor, ...]] = dataclasses.field(default_factory=dict)

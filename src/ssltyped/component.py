"""What a part may know of the run that it is in, and what it says about its own fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Optional


@dataclasses.dataclass(frozen=True)
class Facts:
    """What inference may know about a run. A value is None (or empty) while it is not known yet, or not known here.

    Args:
        world_size: ranks
        ranks_per_node: ranks on each node
        batch_size: images a rank and batch
        accumulation: batches of a rank per optimizer step
        num_views: views of each image
        crop_sizes: the side of each view
        feature_dims: width of each of the trunk's features, in network order
        output_dims: width of each output of the model, over all heads
        inputs: number of consecutive views of each input of the model, in order
        mask_grids: rows and columns of each view's mask; empty if no view has one
        num_channels: channels of an image as the trunk reads it
        num_images: images to train on
        labelled: whether both the images to train on and those to evaluate on have labels
        train_labelled: whether the images to train on have a label, of their own or of a pretext task
        evaluates: whether `data.val` says how images are read for an evaluation
        uses_labels: whether the method reads the labels
        pretext: whether the labels are those of a pretext task that the views make
        num_classes: classes of the pretext task that the views make
        lr: peak learning rate
        base_lr_of_one_node: what it would be on one node
        epochs: passes over the images
    """

    world_size: int
    ranks_per_node: int
    batch_size: int
    accumulation: int
    num_views: int
    crop_sizes: tuple[int, ...]
    feature_dims: Mapping[str, int]
    output_dims: tuple[int, ...] = ()
    inputs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    mask_grids: tuple[Optional[tuple[int, int]], ...] = ()
    num_channels: Optional[int] = None
    num_images: Optional[int] = None
    labelled: Optional[bool] = None
    train_labelled: Optional[bool] = None
    evaluates: bool = True
    uses_labels: bool = True
    pretext: bool = False
    num_classes: Optional[int] = None
    lr: Optional[float] = None
    base_lr_of_one_node: Optional[float] = None
    epochs: Optional[int] = None

    @property
    def nodes(self) -> int:
        return self.world_size // self.ranks_per_node

    @property
    def global_batch_size(self) -> int:
        """Images per optimizer step: B x world_size x accumulation."""
        return self.batch_size * self.world_size * self.accumulation

    @property
    def steps_per_epoch(self) -> Optional[int]:
        """Full batches in one pass over the images; the rest of a pass is left out (another rest each epoch)."""
        return None if self.num_images is None else self.num_images // self.global_batch_size


@dataclasses.dataclass(frozen=True)
class Inference:
    """`field` (a path below the part that declares it) should be `value`, because of `rule` (one line)."""

    field: str
    value: object
    rule: str


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something wrong with a config: the path of the field, and one sentence that says what and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Component:
    """A part that a recipe can name. Constructors are keyword-only and take values and other parts.

    `infer` and `problems` are called **with the config in the place of self**, before anything is built:
    they may read the constructor's fields (`self.temperature`), which both have, and nothing else.
    """

    def infer(self, facts: Facts) -> Iterable[Inference]:
        """Values for fields that were left at None. A field that the user set to something else is an error."""
        return ()

    def problems(self, facts: Facts) -> Iterable[Problem]:
        """What cannot work although every field has the right type; paths are relative to this part."""
        return ()

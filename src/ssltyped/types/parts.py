"""The base class of every kind of part that makes, reads or trains on images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Optional, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssltyped.config.component import AnyConfig, Component, Fact, Facts, Inference, Problem
from ssltyped.config.generate import children, is_config, part_of
from ssltyped.types.values import Batch, Carry, Features, Image, Moment, Outputs, Random, StepOutput, Target, Views


class Trunk(Component, nn.Module, ABC):
    """Images to named features."""

    @property
    @abstractmethod
    def feature_dims(self) -> Mapping[str, int]:
        """The width (channels) of each feature that can be asked for, in network order; the last is the default."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        """The features of these names in this order; nothing past the last one is computed."""


class MaskedTrunk(Trunk):
    """A trunk of patches that can be shown a part of each image."""

    @abstractmethod
    def forward(
        self, images: Float[Tensor, "B C H W"], features: Sequence[str], mask: Optional[Bool[Tensor, "B h w"]] = None
    ) -> Features:
        """As `Trunk.forward`; the patches at the true places of `mask` are masked."""


PATCH_SIZE: Fact[int] = Fact("patch size")
"""Side of the trunk's square patches, in pixels: a mask has one place for each of them."""


class Head(Component, nn.Module, ABC):
    """A feature of the trunk to what a method, or a measure, wants.

    Args:
        in_dim: width of the feature that is read; null: inferred from the trunk.
        feature: the trunk's feature that is read; null: its last one.
        input: the input whose views are read, where the data makes several; null: the only one.
    """

    in_dim: int
    feature: Optional[str] = None
    input: Optional[str] = None

    def __init__(self, *, feature: Optional[str] = None, input: Optional[str] = None) -> None:
        super().__init__()
        self.feature, self.input = feature, input

    @property
    @abstractmethod
    def out_dim(self) -> int:
        """The width of the first output."""

    @property
    def out_dims(self) -> Sequence[int]:
        """The width of each output; most heads have one."""
        return (self.out_dim,)

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor | list[Tensor]:
        """One tensor, or one an output."""


@runtime_checkable
class Model(Protocol):
    """Trunk and heads as a method sees them (`ssltyped.model.model.SSLModel` is the implementation)."""

    def __call__(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = ...,
    ) -> Outputs:
        """The outputs of the heads, rows ordered [all B of view 0; all B of view 1; ...].

        `heads`: the names of those that are read; None: all. `masks`: one a view, for a trunk that takes them.
        `features`: by head, the feature that it reads, if not what the recipe says.
        """
        ...


LOWEST_TEMPERATURE = 0.01
"""CLIP (Radford et al. 2021, arXiv 2103.00020, section 2.5) holds 1 / T below 100, for a training that is stable."""


class Loss(Component, nn.Module, ABC):
    """A method. It owns all that the method needs beside trunk and heads: queues, centres, teachers, prototypes.

    Contract: W ranks x B images give the loss and the (DDP-averaged) gradients of one process x W*B images, and A
    accumulated batches those of one with A times the images, or `whole_batch` says why not.
    `step` changes nothing: it may be called several times before an update, or again for the same batch. State that is
    not learned moves in `update` only, by what the steps of the update carry; but for the running statistics of
    BatchNorm, which every pass in training mode moves, a teacher's too.

    A field `head: str = INFERRED` is the head that the method reads, `heads: list[str] = INFERRED` those that it reads:
    inferred here where there is no choice, and checked. A field that is a head, such as a predictor, gets its width.

    Args:
        head: the head that is read.
        heads: the heads that are read.
    """

    hooks = (*Component.hooks, "setup", "step", "update", "product", "on_train_start", "on_epoch_start")

    uses_labels: bool = False
    """Whether the method reads the labels of a batch."""

    same_on_all_ranks: tuple[str, ...] = ()
    """Names of the buffers that are equal on all ranks: a checkpoint holds them once."""

    takes_masks: bool = False
    """Whether the method uses the masks of a batch; making them for one that does not is an error."""

    outputs: Optional[tuple[int, Optional[int], str]] = (1, 1, "exactly one output")
    """The fewest and the most outputs that a head it reads may have, and what that is; None: any number will do."""

    views_apart: bool = False
    """Whether the method is defined view by view: each goes through trunk and heads alone, unless `passes` is given."""

    head_has: tuple[str, str] = ("", "")
    """A method that the heads it reads, or parts of them, have, and what that is; empty: any head will do."""

    whole_batch: str = ""
    """Why several accumulated batches are not one large batch to the method; empty: they are."""

    @classmethod
    def infer(cls, config: AnyConfig, facts: Facts) -> Iterable[Inference]:
        for field, only in (("head", *facts.heads), ("heads", list(facts.heads))) if len(facts.heads) == 1 else ():
            if hasattr(config, field):
                yield Inference(field, only, "the only head of the model", default=True)
        for name, part in children(config) if is_config(config) else ():
            reads = facts.widths(getattr(config, "head", None))
            if reads and is_config(part) and issubclass(part_of(part).kind, Head) and hasattr(part, "in_dim"):
                yield Inference(f"{name}.in_dim", reads[0], "width of the head that the method reads", default=True)

    @classmethod
    def problems(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        there = ", ".join(facts.heads) or "no heads"
        for field, which in (("head", "which one"), ("heads", "which of them")) if len(facts.heads) > 1 else ():
            if getattr(config, field, "") is None:
                yield Problem(field, f"the model has the heads {there}: say {which} {cls.__name__} reads")
        for name, part in children(config) if is_config(config) else ():
            if is_config(part) and issubclass(part_of(part).kind, Head):
                for field in ("feature", "input"):
                    if getattr(part, field, None) is not None:
                        yield Problem(f"{name}.{field}", "has no effect: it reads what the method gives it")
        one, several = getattr(config, "head", None), getattr(config, "heads", None) or []
        for field, name in (("head", one), *((f"heads.{index}", name) for index, name in enumerate(several))):
            if name is None:
                continue
            if name not in facts.heads:
                yield Problem(field, f"got {name!r}; the model has {there}")
            elif cls.outputs is not None and (found := len(facts.widths(name))):
                fewest, most, wanted = cls.outputs
                if not fewest <= found <= (most or found):
                    yield Problem(field, f"needs a head with {wanted}; {name} has {found}")
            yield from cls._wrong_kind(field, name, facts.head_kinds.get(name, ()))
        if facts.accumulation > 1 and cls.whole_batch:
            message = f"{facts.accumulation} accumulated batches are not one large batch here: {cls.whole_batch}"
            yield Problem("", f"{message}; set accumulation=1, with more ranks or a larger batch_size")

    @classmethod
    def warnings(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        for field, value in children(config) if is_config(config) else ():
            if field.endswith("temperature") and isinstance(value, float) and value < LOWEST_TEMPERATURE:
                message = f"got {value:g}: a softmax of cosines over less than {LOWEST_TEMPERATURE:g} is one-hot"
                yield Problem(field, f"{message}, and teaches little; 0.04 to 1 are usual")

    @classmethod
    def _wrong_kind(cls, field: str, head: str, kinds: Sequence[type]) -> Iterable[Problem]:
        """A head, made of parts of these kinds, that has not what the method needs."""
        method, what = cls.head_has
        if kinds and method and not any(hasattr(kind, method) for kind in kinds):
            yield Problem(field, f"needs a head with {what}; {head} is {kinds[0].__name__}")

    @abstractmethod
    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        """Forward one local batch; collectives go through `ssltyped.distributed`."""

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        """Once after the optimizer moved, with the carry of each batch of the step: queues, centres, teachers move."""

    def product(self, model: Model) -> Model:
        """The model that the method is for, which is evaluated, saved and exported: that which its paper evaluates."""
        return model

    def setup(self, model: Model) -> None:
        """Once, when the model is new and before a checkpoint is read: make what depends on it, such as a teacher.

        What of the config does not fit is raised as a `ConfigError`, with paths from this loss.
        """

    def on_train_start(self, model: Model, batches: Callable[[], Iterator[Batch]]) -> None:
        """Before the first step, also after a resume. `batches()` is this rank's share of one pass over the images."""

    def on_epoch_start(self, model: Model, moment: Moment) -> None:
        """Before the first step of an epoch."""


class Transform(Component, ABC):
    """Image to image; uint8 in, uint8 out. All randomness comes from `random`."""

    @abstractmethod
    def __call__(self, image: Image, random: Random) -> Image: ...


class ViewMaker(Component, ABC):
    """Image to views. View v draws from `random(v)` only, so that one view does not move another."""

    @property
    @abstractmethod
    def crop_sizes(self) -> Sequence[int]:
        """The side of each view, one entry a view, in pixels."""

    @property
    def inputs(self) -> Mapping[str, int]:
        """The inputs of the model and the number of consecutive views that each is; most have one."""
        return {"images": len(self.crop_sizes)}

    @property
    def mask_grids(self) -> Sequence[Optional[tuple[int, int]]]:
        """Rows and columns of the mask of each view, or None; empty if no view has one."""
        return ()

    def prepare(self) -> None:
        """Once, before worker processes are forked: compute or load what all images share."""

    @property
    def num_classes(self) -> Optional[int]:
        """How many labels a pretext task has; None: the views have no label of their own."""
        return None

    @abstractmethod
    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views: ...


class Collator(Component, ABC):
    """A normalized batch on its device to the batch that the method sees, such as mixed images. Drawn from `random`."""

    keeps_classes: bool = False
    """Whether the labels after it are of the same classes, also as rows: their number is checked then."""

    @abstractmethod
    def __call__(self, batch: Batch, random: Random) -> Batch: ...


class UnreadableImageError(Exception):
    """An image that could not be read; `str()` of it says why. The pipeline replaces, counts and reports it."""


class Source(Component, ABC):
    """A set of images by index. Cheap to build and to pickle; holds no list in memory that grows with the images."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Image:
        """The decoded image. Raises `UnreadableImageError` for one that is broken or missing."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call image `index` in a report: its path."""

    @property
    def labelled(self) -> bool:
        """Whether the images have labels; a set that defines `label` has them, unless it says otherwise here."""
        return type(self).label is not Source.label

    @property
    def classes(self) -> Sequence[str]:
        """The name of each class, at the place that is its label; empty: the labels are numbers without a name.

        Where two sets meet (trained on one, evaluated on another) their classes are matched by these names.
        """
        return ()

    @property
    def why_unlabelled(self) -> str:
        """Why there are no labels, for the error of what needs them; only asked of a source that is not labelled."""
        return f"{type(self).__name__} gives no labels"

    @property
    def remarks(self) -> Sequence[str]:
        """What the plan and a run say of the images, a sentence each, such as which files were left out."""
        return ()

    def label(self, index: int) -> int | Sequence[int]:
        """The class of image `index`, or a row of 1, 0 and -1 (see `Target`); only asked of a labelled source."""
        raise NotImplementedError(f"{type(self).__name__} has no labels")


class Update(Enum):
    """How often a schedule's value changes: with every optimizer step, or at the start of every epoch."""

    STEP = "step"
    EPOCH = "epoch"


class Scheduler(Component, ABC):
    """A pure function of progress, finite and not negative.

    Args:
        update: how often the value changes; null: with every step, or as it is usual for this schedule.
    """

    update: Update = Update.STEP

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The value at `progress` in [0, 1)."""

    def samples(self) -> list[float]:
        """The values at 2,000 places of the run."""
        return [self(place / 2000) for place in range(2000)]

    def highest(self) -> float:
        """The largest of them."""
        return max(self.samples())


class Optimizer(Component, ABC):
    """Values in the constructor, parameters in the call. The scheduler works towards its `lr`, or `rate.lr`."""

    @property
    def schedules(self) -> Mapping[str, Scheduler]:
        """Those beside the learning rate's: of "weight_decay", and the learning rates of groups, by their names."""
        return {}

    @abstractmethod
    def __call__(self, module: nn.Module) -> torch.optim.Optimizer:
        """Over what is trainable; groups have `lr_scale` and, if there are `schedules`, `schedule` and `wd_scale`."""


class Meter(Component, ABC):
    """A running measure; the same value on one and on W ranks."""

    @classmethod
    def misfits(cls, config: AnyConfig, width: int) -> Iterable[Problem]:
        """What cannot be measured of outputs of this width; paths are relative to the meter."""
        return ()

    @abstractmethod
    def update(self, output: Float[Tensor, "B K"], target: Target) -> None: ...

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Over all ranks since `reset`."""

    @abstractmethod
    def reset(self) -> None: ...

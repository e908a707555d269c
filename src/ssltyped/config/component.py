"""What a part may know of the run that it is in, and what it says about its own fields."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, NoneType, UnionType
from typing import Any, ClassVar, Generic, Optional, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

INFERRED: Any = None
"""The default of a field that is left to inference: `in_dim: int = INFERRED`. On the command line it is null.

The type of such a field says what the constructor gets: it is built when the value is there, and not before.
"""


class MayBeInferred:
    """In the type of a field that has a default and a rule: a recipe that writes `INFERRED` for it asks for the rule.

    queue_size: Annotated[int, Gt(0), MayBeInferred()] = 65536
    """


@dataclasses.dataclass(frozen=True)
class Fact(Generic[T]):
    """The typed key of something that a part publishes about itself and others may read.

    Bind it once, beside the class that publishes it: `PATCH_SIZE: Fact[int] = Fact("patch size")`.
    """

    name: str

    def being(self, value: T) -> Published:
        """What `Component.publish` yields."""
        return Published(self, value)


@dataclasses.dataclass(frozen=True)
class Published:
    """A fact and its value."""

    key: Fact[Any]
    value: object


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
        heads: names of the model's heads
        output_dims: widths of the outputs of each head, by its name; only of heads whose width is known
        inputs: number of consecutive views of each input of the model, in order
        mask_grids: rows and columns of each view's mask; empty if no view has one
        num_channels: channels of an image as the trunk reads it
        num_images: images to train on
        labelled: whether both the images to train on and those to evaluate on have labels
        classes: names of the classes of the images to train on, by their labels; empty: they have none
        unmatched: why the labels of `data.val` cannot be told in those of `data.train`; empty: they can
        train_labelled: whether the images to train on have a label, of their own or of a pretext task
        unlabelled: why images have no labels, for the error of what needs them; empty if they have
        evaluates: whether `data.val` says how images are read for an evaluation
        uses_labels: whether the method reads the labels
        pretext: whether the labels are those of a pretext task: made by the views, or pseudo-labels
        num_classes: classes of the pretext task that the views make
        num_labels: classes of the labels of the images to train on, or the length of their rows
        label_rows: whether these labels are rows
        head_kinds: the classes of each head and of its parts, by its name
        lr: peak learning rate
        base_lr_of_one_node: what it would be on one node
        epochs: passes over the images
        steps: optimizer steps
        published: what the parts say of themselves, by the path of the part
    """

    world_size: int
    ranks_per_node: int
    batch_size: int
    accumulation: int
    num_views: int
    crop_sizes: tuple[int, ...]
    feature_dims: Mapping[str, int]
    heads: tuple[str, ...] = ()
    output_dims: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    inputs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    mask_grids: tuple[Optional[tuple[int, int]], ...] = ()
    num_channels: Optional[int] = None
    num_images: Optional[int] = None
    labelled: Optional[bool] = None
    classes: tuple[str, ...] = ()
    unmatched: str = ""
    train_labelled: Optional[bool] = None
    unlabelled: str = ""
    evaluates: bool = True
    uses_labels: bool = True
    pretext: bool = False
    num_classes: Optional[int] = None
    num_labels: Optional[int] = None
    label_rows: bool = False
    head_kinds: Mapping[str, tuple[type, ...]] = dataclasses.field(default_factory=dict)
    lr: Optional[float] = None
    base_lr_of_one_node: Optional[float] = None
    epochs: Optional[int] = None
    steps: Optional[int] = None
    published: Mapping[str, Sequence[Published]] = dataclasses.field(default_factory=dict)

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

    @property
    def why_unlabelled(self) -> str:
        """Why there are no labels, in brackets, to follow the words that say that there are none; empty if unknown."""
        return f" ({self.unlabelled})" if self.unlabelled else ""

    def widths(self, head: Optional[str]) -> tuple[int, ...]:
        """The widths of a head's outputs; empty while they (or the head) are not known."""
        return self.output_dims.get(head or "", ())

    @property
    def distinct_widths(self) -> list[int]:
        """The different widths among the outputs of all heads."""
        return sorted({width for widths in self.output_dims.values() for width in widths})

    def all(self, key: Fact[T]) -> Mapping[str, T]:
        """What the parts have published under a key, by the path of the part, outer parts first."""
        by_depth = sorted(self.published.items(), key=lambda item: (item[0].count("."), item[0]))
        return {path: one.value for path, said in by_depth for one in said if one.key is key}  # type: ignore[misc]  # a key's values are T

    def get(self, key: Fact[T]) -> Optional[T]:
        """What the outermost part has published under a key (the trunk, not a teacher's); None: nobody has."""
        return next(iter(self.all(key).values()), None)


@dataclasses.dataclass(frozen=True)
class Inference:
    """`field` (a path below the part that declares it) should be `value`, because of `rule` (one line).

    A value of the user's that differs is an error; with `default` it is the user's choice and stands. `source` is the
    field that the value is computed from, if it may be left out (null): then a value of the user's stands too.
    """

    field: str
    value: object
    rule: str
    default: bool = False
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something wrong with a config: the path of the field, and one sentence that says what and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


AnyConfig: TypeAlias = Any
"""What the rules of a base class take: `config: Self` of its subclasses is then no other parameter (to pyright)."""


class ConfigError(ValueError):
    """Everything that is wrong with a config, a line a problem."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem]]]:
        """As other processes get it: an exception is else made again from its text."""
        return ConfigError, (self.problems,)


def refuse(problems: Iterable[Problem]) -> None:
    """Raises ValueError with all of the problems, if there are any: for constructors."""
    if found := list(problems):
        raise ValueError("; ".join(map(str, found)))


class Component:
    """A part that a recipe can name. Constructors are keyword-only and take values and other parts.

    The class methods are called before anything is built, with the config typed as what it builds: they may read the
    constructor's fields (`config.temperature`), each of which is an attribute of the built part too, and nothing else.
    A field that is left to inference is None there until a rule has filled it.
    """

    hooks: ClassVar[tuple[str, ...]] = ("publish", "infer", "problems", "warnings")
    """Methods that are called if a subclass has them; one that is nearly named so is refused."""

    def __init_subclass__(cls, **arguments: object) -> None:
        super().__init_subclass__(**arguments)
        _refuse_misspelt_hooks(cls)
        if isinstance(own := vars(cls).get("__init__"), FunctionType):
            setattr(cls, "__init__", _built_when_resolved(own))  # noqa: B010  # mypy takes it for a method of all components

    @classmethod
    def publish(cls, config: AnyConfig) -> Iterable[Published]:
        """Facts about the part that others may read: `yield PATCH_SIZE.being(config.patch_size)`."""
        return ()

    @classmethod
    def infer(cls, config: AnyConfig, facts: Facts) -> Iterable[Inference]:
        """Values for fields that were left to inference. One that the user set to something else is an error."""
        return ()

    @classmethod
    def problems(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        """What cannot work although every field has the right type; paths are relative to this part."""
        return ()

    @classmethod
    def warnings(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        """What works and may be unwise: said by a plan and at the start of a run, and nothing else comes of it."""
        return ()


@functools.cache
def left_to_inference(constructor: Callable[..., object]) -> frozenset[str]:
    """The parameters of a constructor that may be None in a config though None is not in their type: a rule fills them.

    Those whose default is `INFERRED`, and those that are `MayBeInferred`.
    """
    parameters = inspect.signature(constructor).parameters
    hints = get_type_hints(constructor, include_extras=True) if parameters else {}
    return frozenset(
        name
        for name, one in parameters.items()
        if name in hints and not _takes_none(hints[name]) and (one.default is INFERRED or _may_be_inferred(hints[name]))
    )


def _may_be_inferred(hint: object) -> bool:
    return any(isinstance(mark, MayBeInferred) for mark in getattr(hint, "__metadata__", ()))


def _takes_none(hint: object) -> bool:
    return hint in (NoneType, object, Any) or (get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint))


def _built_when_resolved(constructor: Callable[..., None]) -> Callable[..., None]:
    """The constructor, which says so if a field that is left to inference has no value."""

    @functools.wraps(constructor)
    def __init__(part: object, /, *args: object, **fields: object) -> None:
        given = {name: one.default for name, one in inspect.signature(constructor).parameters.items()} | fields
        if missing := sorted(name for name in left_to_inference(constructor) if given[name] is INFERRED):
            message = f"{type(part).__name__} cannot be built without {' and '.join(missing)}"
            raise ValueError(f"{message}: give a value, or resolve the recipe first, which infers it")
        constructor(part, *args, **fields)

    return __init__


def _refuse_misspelt_hooks(cls: type[Component]) -> None:
    """A hook that nobody calls would change a method in silence. A class that says which hooks there are has them."""
    if "hooks" in vars(cls):
        return
    inherited = {name for base in cls.__mro__[1:] for name in vars(base)}
    for name, value in vars(cls).items():
        if name.startswith("_") or name in inherited or not isinstance(value, FunctionType | classmethod):
            continue
        near = difflib.get_close_matches(name, cls.hooks, n=1, cutoff=0.8)
        if near or name.startswith(("on_", "after_", "before_")):
            meant = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(cls.hooks)}"
            raise TypeError(f"{cls.__name__}.{name} is no hook and would never be called; {meant}")

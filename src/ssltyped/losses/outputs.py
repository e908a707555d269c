"""What methods ask of a model: its outputs, and the prototypes of its heads."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Optional, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ssltyped.losses.shared_pass import module_of
from ssltyped.types import Facts, Inference, LossRange, Model, Outputs, Problem

NEGATIVES = "an image's negatives are the other images of its batch"
"""Why accumulated batches are not one, for the methods that contrast within a batch."""
BALANCED = "the codes are balanced over the images of one batch"
"""Why they are not, for the methods that assign images to prototypes."""


PROTOTYPES = ("prototype_weights", "prototypes, such as DINOHead or PrototypesHead")
"""`Loss.head_has` of methods that compare with the prototypes of a head."""


def precise(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """In float32 at least, whatever the autocast dtype."""
    return x if x.dtype == torch.float64 else x.float()


def inferred_width(field: str, head: Optional[str], facts: Facts, place: int = 0) -> Iterable[Inference]:
    """`field` is the width of an output of the head that is read."""
    if len(widths := facts.widths(head)) > place:
        which = "" if len(widths) == 1 else f" of output {place}"
        yield Inference(field, widths[place], f"width{which} of the head {head}")


def wrong_crops(field: str, asked: Iterable[int], facts: Facts) -> Iterable[Problem]:
    """Crops that the data does not make."""
    if max(asked := list(asked)) >= facts.num_views:
        yield Problem(field, f"got {asked}, but the data makes the crops 0 to {facts.num_views - 1}")


def softmax_range(choices: int, temperature: Optional[float] = None) -> LossRange:
    """Of a cross entropy over so many choices; of cosines over `temperature`, which lie within [-1 / T, 1 / T]."""
    uniform = math.log(choices)
    return LossRange(highest=math.inf if temperature is None else uniform + 2 / temperature, uniform=uniform)


def more_than_images(field: str, count: int, what: str, facts: Facts, images_each: int = 5) -> Iterable[Problem]:
    """A warning: so many of something that there are not even images; about one for `images_each` of them suits."""
    if facts.num_images is not None and count > facts.num_images:
        better = f"about {max(1, facts.num_images // images_each):,} suit so few"
        yield Problem(field, f"{count:,} {what} for {facts.num_images:,} images: {better}")


def all_outputs(found: Outputs, heads: Sequence[str]) -> list[Tensor]:
    """Every output of these heads in their order, in float32 at least."""
    return [precise(output) for head in heads for output in found.all_of(head)]


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A block without autocast on the device of `x`: products of similarities are too fine for 8 bits."""
    # torch has no autocast for the tensors without numbers of a plan
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


@runtime_checkable
class HasPrototypes(Protocol):
    """A part of the model whose scores are products of an embedding and prototypes (K, D)."""

    def prototype_weights(self) -> Sequence[Tensor]: ...

    def normalize_prototypes(self) -> None:
        """Scale each prototype to length 1, in place."""
        ...


def parts_with_prototypes(model: Model, head: str) -> Iterator[HasPrototypes]:
    """Every such part of a head of a model."""
    part = module_of(model).get_submodule(f"heads.{head}")
    return (module for module in part.modules() if isinstance(module, HasPrototypes))


def prototypes_of(model: Model, head: str) -> list[Tensor]:
    """All matrices of prototypes (K, D) of a head, in the order of the scores."""
    return [weight for part in parts_with_prototypes(model, head) for weight in part.prototype_weights()]

"""How a method reaches the prototypes that a head of the model holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from ssltyped.losses.teacher import module_of
from ssltyped.types import Model


@runtime_checkable
class HasPrototypes(Protocol):
    """A part of the model whose scores are products of an embedding and prototypes (K, D)."""

    def prototype_weights(self) -> Sequence[Tensor]: ...

    def normalize_prototypes(self) -> None:
        """Scale each prototype to length 1, in place."""
        ...


def parts_with_prototypes(model: Model) -> Iterator[HasPrototypes]:
    """Every such part of a model."""
    return (part for part in module_of(model).modules() if isinstance(part, HasPrototypes))


def prototypes_of(model: Model) -> list[Tensor]:
    """All matrices of prototypes (K, D), in the order of the scores."""
    return [weight for part in parts_with_prototypes(model) for weight in part.prototype_weights()]

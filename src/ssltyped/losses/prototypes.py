"""How a method reaches the prototypes that a head of the model holds."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from ssltyped.losses.shared_pass import module_of
from ssltyped.types import Model


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

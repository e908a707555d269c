"""The model as methods share it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Optional

import torch
from torch import Tensor, nn

from ssltyped.types import Model, Outputs


class SharedPass:
    """A model within one step of several methods: what they ask of the same views goes through it once.

    Args:
        model: the model itself.
        heads: those that any of the methods reads; they run together.
    """

    def __init__(self, model: Model, heads: Sequence[str]) -> None:
        self.model = model
        self._heads = list(dict.fromkeys(heads))
        self._seen: dict[tuple[object, ...], tuple[Outputs, object]] = {}

    def __call__(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = MappingProxyType({}),
    ) -> Outputs:
        if features:  # another feature than the recipe's is one method's own wish
            return self.model(views, masks=masks, heads=heads, features=features)
        key = (torch.is_grad_enabled(), *map(id, views), "masks", *map(id, masks))
        if key not in self._seen:
            # Kept with what it was made from: the number of a tensor that is gone may be that of another.
            self._seen[key] = self.model(views, masks=masks, heads=self._heads), (*views, *masks)
        return self._seen[key][0]


def module_of(model: Model) -> nn.Module:
    """The model as what it is: a module."""
    found = model.model if isinstance(model, SharedPass) else model
    assert isinstance(found, nn.Module), f"{type(found).__name__} is no module"
    return found

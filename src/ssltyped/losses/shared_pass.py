"""One pass for what several methods ask of the same views."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Optional

import torch
from torch import Tensor, nn

from ssltyped.model.model import SSLModel
from ssltyped.types import Model, Outputs


class SharedPass:
    """A model within one step of several methods: the same views go through the trunk once for a feature.

    A head runs when a method asks for it, once for the same views.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._seen: dict[tuple[object, ...], tuple[Outputs, object]] = {}

    def __call__(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = MappingProxyType({}),
    ) -> Outputs:
        if features or heads is None:  # another feature than the recipe's is one method's own wish
            return self.model(views, masks=masks, heads=heads, features=features)
        key = (torch.is_grad_enabled(), *map(id, views), "masks", *map(id, masks))
        seen, _ = self._seen.get(key, (Outputs({}), None))
        found, module = dict(seen.heads), module_of(self.model)
        if isinstance(module, SSLModel):
            lacking = [head for head in heads if head not in found]
            found |= module.of_features(seen.features, lacking, len(views))
        made = Outputs({})
        if missing := [head for head in heads if head not in found]:
            made = self.model(views, masks=masks, heads=missing)
        both = Outputs({**found, **made.heads}, {**seen.features, **made.features})
        # Kept with what it was made from: the number of a tensor that is gone may be that of another.
        self._seen[key] = both, (*views, *masks)
        return both


def module_of(model: Model) -> nn.Module:
    """The model as what it is: a module."""
    while isinstance(model, SharedPass):
        model = model.model
    assert isinstance(model, nn.Module), f"{type(model).__name__} is no module"
    return model

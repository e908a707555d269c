"""The towers of a siamese network, side by side."""

from collections.abc import Iterable
from typing import Annotated, Optional, Self

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from ssltyped.config import INFERRED, config_for
from ssltyped.types import Facts, Head, Problem


class SiameseConcatHead(Head):
    """(T B, D) -> (B, T D): the features of the T views of an image in one row, in the order of the views.

    Rows come ordered [all B of view 0; all B of view 1; ...]. Jigsaw: Noroozi and Favaro 2016, arXiv 1603.09246,
    section 3.1. Raises ValueError when built without in_dim, or for a number of rows that T does not divide.

    Args:
        num_towers: T, views of an image.
        in_dim: D, width of the feature; null: inferred from the trunk.
    """

    def __init__(
        self,
        *,
        num_towers: Annotated[int, Gt(0)],
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim = in_dim
        self.num_towers, self._out_dim = num_towers, in_dim * num_towers

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        inputs = facts.inputs or {"images": facts.num_views}
        if config.num_towers not in inputs.values():
            there = ", ".join(f"{count} of {name!r}" for name, count in inputs.items())
            yield Problem("num_towers", f"got {config.num_towers}; the views of an image are {there}")

    @property
    def out_dim(self) -> int:
        return self._out_dim

    def forward(self, features: Float[Tensor, "R D"]) -> Float[Tensor, "B E"]:
        if len(features) % self.num_towers:
            raise ValueError(f"{len(features)} rows are no multiple of num_towers={self.num_towers}")
        return features.reshape(self.num_towers, -1, features.shape[1]).transpose(0, 1).flatten(1)


SiameseConcatHeadConf = config_for(SiameseConcatHead)

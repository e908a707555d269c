"""The head that is none: the method reads the trunk's feature as it is."""

from typing import Annotated, Optional

from annotated_types import Gt
from torch import Tensor

from ssltyped.config import INFERRED, config_for
from ssltyped.types import Head


class IdentityHead(Head):
    """y = x, of any shape; raises ValueError when built without in_dim.

    Args:
        in_dim: width of the feature that is read, and of the output; null: inferred from the trunk.
    """

    def __init__(
        self, *, in_dim: Annotated[int, Gt(0)] = INFERRED, feature: Optional[str] = None, input: Optional[str] = None
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim = in_dim
        self._out_dim = in_dim

    @property
    def out_dim(self) -> int:
        return self._out_dim

    def forward(self, features: Tensor) -> Tensor:
        return features


IdentityHeadConf = config_for(IdentityHead)

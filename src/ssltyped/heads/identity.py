"""The head that is none: the method reads the trunk's feature as it is."""

from typing import Annotated, Optional

from annotated_types import Gt
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.types import Head


class IdentityHead(Head):
    """y = x, of any shape; raises ValueError when built without in_dim.

    Args:
        in_dim: width of the feature that is read, and of the output; None infers it from the trunk.
    """

    def __init__(self, *, in_dim: Optional[Annotated[int, Gt(0)]] = None) -> None:
        super().__init__()
        if in_dim is None:
            raise ValueError("in_dim is None: give the width of the feature, or resolve the config first")
        self.in_dim: Optional[int] = in_dim
        self._out_dim = in_dim

    @property
    def out_dim(self) -> int:
        return self._out_dim

    def forward(self, features: Tensor) -> Tensor:
        return features


IdentityHeadConf = config_for(IdentityHead)

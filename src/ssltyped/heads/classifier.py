"""The classifiers that trunks were published with: of the vision transformer and of MobileNetV3."""

import math
from typing import Annotated, Optional

from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, config_for
from ssltyped.types import Head


class ViTHead(Head):
    """y = W x + b, or y = W tanh(V x + c) + b in pretraining: (B in_dim) -> (B num_classes).

    Dosovitskiy et al. 2021 (arXiv 2010.11929), section 3.1. V starts from N(0, 1 / in_dim), W from a normal
    distribution of deviation 0.02, biases at 0.

    Args:
        num_classes: width of the output.
        hidden_dim: width of the hidden layer; None: there is none.
    """

    def __init__(
        self,
        *,
        num_classes: Annotated[int, Gt(0)] = 1000,
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        hidden_dim: Optional[Annotated[int, Gt(0)]] = None,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.num_classes, self.hidden_dim = in_dim, num_classes, hidden_dim
        self.layers = nn.Sequential()
        if hidden_dim is not None:
            self.layers.extend([_normal(nn.Linear(in_dim, hidden_dim), math.sqrt(1 / in_dim)), nn.Tanh()])
        self.layers.append(_normal(nn.Linear(hidden_dim or in_dim, num_classes), 0.02))

    @property
    def out_dim(self) -> int:
        return self.num_classes

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        logits: Tensor = self.layers(features)
        return logits


class MobileNetV3Head(Head):
    """Linear, hard swish, dropout, linear: (B in_dim) or (B in_dim 1 1) -> (B num_classes).

    Howard et al. 2019 (arXiv 1905.02244), table 1. Weights start from N(0, 0.01^2), biases at 0.

    Args:
        num_classes: width of the output.
        in_dim: width of the feature that is read, 960 in the large model; null: inferred from the trunk.
        hidden_dim: width of the hidden layer.
        dropout: probability that a hidden value is zeroed in training.
        use_bn: batch normalization of the input.
    """

    def __init__(
        self,
        *,
        num_classes: Annotated[int, Gt(0)] = 1000,
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        hidden_dim: Annotated[int, Gt(0)] = 1280,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
        use_bn: bool = False,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.num_classes, self.hidden_dim = in_dim, num_classes, hidden_dim
        self.dropout, self.use_bn = dropout, use_bn
        self.channel_bn = nn.BatchNorm1d(in_dim) if use_bn else nn.Identity()
        self.layers = nn.Sequential(
            _normal(nn.Linear(in_dim, hidden_dim), 0.01),
            nn.Hardswish(),
            nn.Dropout(dropout),
            _normal(nn.Linear(hidden_dim, num_classes), 0.01),
        )

    @property
    def out_dim(self) -> int:
        return self.num_classes

    def forward(self, features: Float[Tensor, "B D *pixels"]) -> Float[Tensor, "B K"]:
        logits: Tensor = self.layers(self.channel_bn(features.flatten(1)))
        return logits


def _normal(layer: nn.Linear, std: float) -> nn.Linear:
    """With weights of this deviation (normal, cut at 2) and biases of 0."""
    if not layer.weight.is_meta:
        nn.init.trunc_normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    return layer


ViTHeadConf = config_for(ViTHead)
MobileNetV3HeadConf = config_for(MobileNetV3Head)

"""The head of linear evaluations: batch normalization, then a linear layer or more."""

from collections.abc import Iterable
from typing import Annotated, Optional, Self

from annotated_types import Gt, Le, Len
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, config_for
from ssltyped.heads.mlp import BN_EPS, BN_MOMENTUM, MLPHead
from ssltyped.types import Facts, Head, Problem


class EvalMLPHead(Head):
    """y = MLP(flatten(BN(x))): a linear classifier on a frozen feature whose scale does not matter.

    (B in_channels h w), or the same flattened (B in_dim), -> (B dims[-1]); BN is over the channels, with scale and
    shift, and in_dim = in_channels h w. A feature of S vectors, (B S in_dim), gives (B S dims[-1]): BN over in_dim,
    then the MLP on each vector. Goyal et al. 2019 (arXiv 1905.01235), appendix. Raises ValueError when built without
    in_dim, or called with another number of values an image.

    Args:
        dims: output width of each linear layer.
        in_dim: width of the flattened feature; null: inferred from the trunk.
        in_channels: channels that BN normalizes; None: each of the in_dim values by itself.
        use_bn: batch normalization after each linear layer but the last.
        use_relu: relu after each linear layer but the last.
        residual: a layer whose input and output are equally wide adds its input.
        bn_eps: added to the variance in batch normalization.
        bn_momentum: weight of the newest batch in the running mean and variance.
    """

    def __init__(
        self,
        *,
        dims: Annotated[list[Annotated[int, Gt(0)]], Len(1)],
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        in_channels: Optional[Annotated[int, Gt(0)]] = None,
        use_bn: bool = False,
        use_relu: bool = False,
        residual: bool = False,
        bn_eps: Annotated[float, Gt(0)] = BN_EPS,
        bn_momentum: Annotated[float, Gt(0), Le(1)] = BN_MOMENTUM,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.use_bn, self.use_relu, self.residual = in_dim, use_bn, use_relu, residual
        self.bn_eps, self.bn_momentum = bn_eps, bn_momentum
        self.dims, self.in_channels = list(dims), in_channels or in_dim
        self.channel_bn = nn.BatchNorm1d(self.in_channels, eps=bn_eps, momentum=bn_momentum)
        self.mlp = MLPHead(
            dims=dims,
            in_dim=in_dim,
            use_bn=use_bn,
            use_relu=use_relu,
            residual=residual,
            bn_eps=bn_eps if use_bn else BN_EPS,
            bn_momentum=bn_momentum if use_bn else BN_MOMENTUM,
        )

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.in_dim and config.in_channels and config.in_dim % config.in_channels:
            yield Problem("in_channels", f"got {config.in_channels}, which does not divide in_dim {config.in_dim}")

    @property
    def out_dim(self) -> int:
        return self.dims[-1]

    def forward(self, features: Float[Tensor, "B *shape"]) -> Float[Tensor, "B *positions K"]:
        if features.ndim == 3 and features.shape[-1] == self.in_dim:
            rows = self.channel_bn(features.flatten(0, 1))
            positions: Tensor = self.mlp(rows)
            return positions.reshape(*features.shape[:2], -1)
        rows = features.flatten(1)
        if rows.shape[1] != self.in_dim:
            raise ValueError(f"features of shape {tuple(features.shape)}: the head reads {self.in_dim} values an image")
        by_channel = rows if self.in_channels == self.in_dim else rows.reshape(len(rows), self.in_channels, -1)
        out: Tensor = self.mlp(self.channel_bn(by_channel).flatten(1))
        return out


EvalMLPHeadConf = config_for(EvalMLPHead)

"""Multilayer perceptrons: the projection head of most methods, with one width a linear classifier, and evaluations'."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Optional, Self

from annotated_types import Ge, Gt, Le, Len, Lt
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, MayBeInferred, config_for, refuse
from ssltyped.types import Facts, Head, Inference, Problem

BN_EPS, BN_MOMENTUM = 1e-5, 0.1


class MLPHead(Head):
    """x <- dropout(relu(bn(W_i x + b_i))) for each width in `dims`; the last layer is W x + b only if it is bare.

    (B in_dim) or (B in_dim 1 1) -> (B dims[-1]). SimCLR's head is `dims=[2048, 128]` (Chen et al. 2020,
    arXiv 2002.05709, section 4.2). Linear layers start as PyTorch's do, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), times
    `init_scale`; `bn_eps` and `bn_momentum` default to those of PyTorch. Raises ValueError with an option that
    would have no effect, or called with another shape.

    Args:
        dims: output width of each linear layer; the last one is the width of the embedding; null: one layer, to the
            classes of the labels.
        use_bn: batch normalization after each linear layer (but a bare last one).
        use_relu: relu after each linear layer (but a bare last one).
        use_bias: linear layers have a bias.
        dropout: probability that an activation is zeroed in training, after each relu.
        last_layer_bare: the last layer is linear only.
        bn_eps: added to the variance in batch normalization.
        bn_momentum: weight of the newest batch in the running mean and variance.
        init_scale: factor of the initial weights and biases of the linear layers.
        residual: a layer whose input and output are equally wide, with what follows it, adds its input: x + f(x).
    """

    def __init__(
        self,
        *,
        dims: Annotated[list[Annotated[int, Gt(0)]], Len(1), MayBeInferred()],
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        use_bn: bool = False,
        use_relu: bool = True,
        use_bias: bool = True,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
        last_layer_bare: bool = True,
        bn_eps: Annotated[float, Gt(0)] = BN_EPS,
        bn_momentum: Annotated[float, Gt(0), Le(1)] = BN_MOMENTUM,
        init_scale: Annotated[float, Gt(0)] = 1.0,
        residual: bool = False,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.dims, self.in_dim, self.use_bn, self.use_relu, self.dropout = dims, in_dim, use_bn, use_relu, dropout
        self.last_layer_bare, self.bn_eps, self.bn_momentum = last_layer_bare, bn_eps, bn_momentum
        self.use_bias, self.init_scale, self.residual = use_bias, init_scale, residual
        refuse(MLPHead._faults(self))
        self.layers = nn.Sequential()
        for index, (before, after) in enumerate(pairwise([in_dim, *dims])):
            layers: list[nn.Module] = [nn.Linear(before, after, bias=use_bias)]
            if init_scale != 1.0:
                for parameter in layers[0].parameters():
                    parameter.data.mul_(init_scale)
            if not (last_layer_bare and index == len(dims) - 1):
                layers += [nn.BatchNorm1d(after, eps=bn_eps, momentum=bn_momentum)] if use_bn else []
                layers += [nn.ReLU(inplace=True)] if use_relu else []
                layers += [nn.Dropout(dropout)] if dropout else []
            self.layers.extend([Residual(*layers)] if residual and before == after else layers)

    @property
    def out_dim(self) -> int:
        return self.dims[-1]

    def forward(self, features: Float[Tensor, "B D *pixels"]) -> Float[Tensor, "B K"]:
        if features.shape[1:] not in ((self.in_dim,), (self.in_dim, 1, 1)):
            got = " ".join(map(str, features.shape))
            raise ValueError(f"features of shape ({got}): the head reads (B {self.in_dim}) or (B {self.in_dim} 1 1)")
        output: Tensor = self.layers(features.flatten(1))
        return output

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        if (classes := facts.num_classes or facts.num_labels) is not None:
            yield Inference("dims", [classes], "one layer, to the classes of the labels", default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return [] if config.dims is INFERRED else MLPHead._faults(config)  # that it is not known here is told

    def _faults(self) -> Iterator[Problem]:
        """What the types of the constructor cannot say; self may be a config."""
        if not self.dims:
            yield Problem("dims", "is empty: give the output width of each linear layer")
        only_linear = self.last_layer_bare and len(self.dims) == 1
        for field, used in (("use_bn", self.use_bn), ("dropout", self.dropout > 0)):
            if only_linear and used:
                yield Problem(field, "has no effect on a single bare layer: set last_layer_bare=False or leave it out")
        if not self.use_bn and (self.bn_eps, self.bn_momentum) != (BN_EPS, BN_MOMENTUM):
            yield Problem("bn_eps", "bn_eps and bn_momentum have no effect without use_bn")


class Residual(nn.Sequential):
    """x + f(x), with the layers of f in turn."""

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        y = x
        for layer in self:
            y = layer(y)
        return x + y


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
            positions: Tensor = self.mlp(self.channel_bn(features.flatten(0, 1)))
            return positions.reshape(*features.shape[:2], -1)
        rows = features.flatten(1)
        if rows.shape[1] != self.in_dim:
            raise ValueError(f"features of shape {tuple(features.shape)}: the head reads {self.in_dim} values an image")
        by_channel = rows if self.in_channels == self.in_dim else rows.reshape(len(rows), self.in_channels, -1)
        out: Tensor = self.mlp(self.channel_bn(by_channel).flatten(1))
        return out


MLPHeadConf = config_for(MLPHead)
EvalMLPHeadConf = config_for(EvalMLPHead)

"""The heads of iBOT: one MLP for the class token and for the patches."""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from typing import Annotated, Optional

import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.config.component import AnyConfig
from ssltyped.heads.prototypes import Activation, Prototypes, PrototypeScores, Scale, gelu_mlp
from ssltyped.types import Facts, Head, Inference, Problem, fewer


class TokenNorm(Enum):
    """What normalizes the vectors of tokens: nothing, their statistics over the batch, or each vector by itself."""

    NONE = "none"
    BATCH = "batch"
    LAYER = "layer"

    def maker(self, *, affine: bool = True) -> Optional[Callable[[int], nn.Module]]:
        """The layer of it for vectors of a width."""
        if self is TokenNorm.NONE:
            return None
        if self is TokenNorm.BATCH:
            return partial(TokenBatchNorm, affine=affine)
        return partial(nn.LayerNorm, elementwise_affine=affine)


class TokenBatchNorm(nn.Module):
    """Batch normalization of (B, D), or of every token in (B, T, D), over B or over B T.

    The norm is a layer inside, so that a synchronised one can take its place. Its parameters are `norm.weight`, ...

    Args:
        width: D.
        affine: whether there are a learnable scale and shift.
    """

    def __init__(self, width: int, *, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=affine)

    def forward(self, x: Float[Tensor, "B *T D"]) -> Float[Tensor, "B *T D"]:
        normalized: Tensor = self.norm(x.flatten(0, -2))
        return normalized.reshape(x.shape)


class TokenScores(Head):
    """(B, 1 + T, D) -> class scores (B, K) and patch scores (B, T, K'); (B, D) -> class scores only.

    Zhou et al. 2022 (arXiv 2111.07832), appendix B. Hidden layers each have a norm of their own.

    Args:
        num_prototypes: K; 8192 in the paper; null: as many, or one for 5 images.
        num_patch_prototypes: K'; None: K.
        in_dim: width of the tokens; null: inferred from the trunk.
        shared: the patches are scored by what scores the class token.
        hidden_dim: width of the hidden layers.
        norm: after each hidden layer.
        activation: after each hidden layer.
        last_norm: of the scores, without scale and shift.
    """

    num_prototypes: int
    num_patch_prototypes: Optional[int]
    last_norm: nn.Module
    patch_last_norm: nn.Module

    @classmethod
    def infer(cls, config: AnyConfig, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from fewer("num_prototypes", 8192, 5, facts)

    @classmethod
    def problems(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        if config.shared and config.num_patch_prototypes not in (None, config.num_prototypes):
            yield Problem("num_patch_prototypes", "has no effect with shared prototypes: leave it out")

    @property
    def out_dim(self) -> int:
        return self.num_prototypes

    @property
    def out_dims(self) -> Sequence[int]:
        return self.num_prototypes, self.num_patch_prototypes or self.num_prototypes

    def scores(self, z: Float[Tensor, "B *T d"], of_class: nn.Module, of_patches: nn.Module) -> list[Tensor]:
        """What the two layers make of embedded tokens, normalized."""
        if z.ndim == 2:
            return [self.last_norm(of_class(z))]
        return [self.last_norm(of_class(z[:, 0])), self.patch_last_norm(of_patches(z[:, 1:]))]


class IBOTHead(TokenScores, PrototypeScores):
    """DINO's head with prototypes for the class token and, unless shared, others for the patches (`TokenScores`).

    Args:
        num_layers: linear layers of the MLP.
        bottleneck_dim: width of its output, which is scaled to length 1.
        scale: lengths of the prototypes.
    """

    def __init__(
        self,
        *,
        num_prototypes: Annotated[int, Gt(0), MayBeInferred()] = 8192,
        num_patch_prototypes: Optional[Annotated[int, Gt(0)]] = None,
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        shared: bool = False,
        num_layers: Annotated[int, Ge(1)] = 3,
        hidden_dim: Annotated[int, Gt(0)] = 2048,
        bottleneck_dim: Annotated[int, Gt(0)] = 256,
        norm: TokenNorm = TokenNorm.NONE,
        activation: Activation = Activation.GELU,
        last_norm: TokenNorm = TokenNorm.NONE,
        scale: Scale = Scale.ONE,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.num_layers, self.hidden_dim, self.shared = in_dim, num_layers, hidden_dim, shared
        self.num_prototypes, self.num_patch_prototypes, self.norm = num_prototypes, num_patch_prototypes, norm
        self.activation, self.bottleneck_dim, self.scale = activation, bottleneck_dim, scale
        self.layers = gelu_mlp([in_dim, *[hidden_dim] * (num_layers - 1), bottleneck_dim], norm.maker(), activation)
        self.prototypes = Prototypes(self.out_dims[0], bottleneck_dim, scale)
        self.patch_prototypes = self.prototypes if shared else Prototypes(self.out_dims[1], bottleneck_dim, scale)
        self.last_norm = _last(last_norm, self.out_dims[0])
        self.patch_last_norm = self.last_norm if shared else _last(last_norm, self.out_dims[1])

    def forward(self, features: Float[Tensor, "B *T D"]) -> list[Tensor]:
        return self.scores(F.normalize(self.layers(features), dim=-1), self.prototypes, self.patch_prototypes)


class IBOTDistillationHead(TokenScores):
    """As `IBOTHead`, with plain linear layers in the place of bottleneck and prototypes.

    Args:
        num_layers: linear layers, the last one included.
    """

    def __init__(
        self,
        *,
        num_prototypes: Annotated[int, Gt(0), MayBeInferred()] = 8192,
        num_patch_prototypes: Optional[Annotated[int, Gt(0)]] = None,
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        shared: bool = False,
        num_layers: Annotated[int, Ge(2)] = 3,
        hidden_dim: Annotated[int, Gt(0)] = 2048,
        norm: TokenNorm = TokenNorm.NONE,
        activation: Activation = Activation.GELU,
        last_norm: TokenNorm = TokenNorm.NONE,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.num_layers, self.hidden_dim, self.shared = in_dim, num_layers, hidden_dim, shared
        self.num_prototypes, self.num_patch_prototypes = num_prototypes, num_patch_prototypes
        self.norm, self.activation = norm, activation
        hidden = gelu_mlp([in_dim, *[hidden_dim] * num_layers], norm.maker(), activation)
        self.layers = hidden[:-1]
        self.last = gelu_mlp([hidden_dim, self.out_dims[0]], None)
        self.patch_last = self.last if shared else gelu_mlp([hidden_dim, self.out_dims[1]], None)
        self.last_norm = _last(last_norm, self.out_dims[0])
        self.patch_last_norm = self.last_norm if shared else _last(last_norm, self.out_dims[1])

    def forward(self, features: Float[Tensor, "B *T D"]) -> list[Tensor]:
        return self.scores(self.layers(features), self.last, self.patch_last)


def _last(norm: TokenNorm, width: int) -> nn.Module:
    """The norm of the scores."""
    make = norm.maker(affine=False)
    return nn.Identity() if make is None else make(width)


IBOTHeadConf = config_for(IBOTHead)
IBOTDistillationHeadConf = config_for(IBOTDistillationHead)

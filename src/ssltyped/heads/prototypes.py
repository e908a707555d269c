"""Prototypes: rows of a matrix that embeddings are compared with; the heads of SwAV, DINO and MSN."""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import pairwise
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Len, Lt
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.heads.mlp import BN_EPS, BN_MOMENTUM
from ssltyped.types import Facts, Head, Inference, Problem, fewer


class Activation(Enum):
    """What follows each hidden layer."""

    RELU = "relu"
    GELU = "gelu"
    NONE = "none"

    def layers(self) -> list[nn.Module]:
        """The layers of it."""
        if self is Activation.NONE:
            return []
        return [nn.ReLU() if self is Activation.RELU else nn.GELU()]


class Scale(Enum):
    """The lengths of prototypes: part of the weights, learned beside the directions, or always 1."""

    FREE = "free"
    LEARNED = "learned"
    ONE = "one"


class Prototypes(nn.Module):
    """z -> z C^T (B, K), with C = weight, or with rows scale_k weight_k / |weight_k| (Salimans and Kingma 2016)."""

    def __init__(self, num_prototypes: int, dim: int, scale: Scale) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(nn.Linear(dim, num_prototypes, bias=False).weight.detach(), dim=1))
        self.kind = scale
        if scale is not Scale.FREE:
            self.scale = nn.Parameter(torch.ones(num_prototypes, 1), requires_grad=scale is Scale.LEARNED)

    @property
    def matrix(self) -> Float[Tensor, "K D"]:
        """C."""
        if self.kind is Scale.FREE:
            return self.weight
        return self.scale * F.normalize(self.weight, dim=1)

    def forward(self, z: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows K"]:
        return F.linear(z, self.matrix)

    @torch.no_grad()
    def normalize(self) -> None:
        """Rows of length 1; nothing to do where they are by construction."""
        if self.kind is Scale.FREE:
            self.weight.copy_(F.normalize(self.weight, dim=1))


class PrototypeScores(Head):
    """A head that compares embeddings with prototypes, which a method may read and keep at length 1."""

    def prototype_weights(self) -> list[Float[Tensor, "_ D"]]:
        """The matrices of prototypes, in the order of the scores."""
        return [prototypes.matrix for prototypes in self._all()]

    def normalize_prototypes(self) -> None:
        """Scale every prototype to length 1."""
        for prototypes in self._all():
            prototypes.normalize()

    def _all(self) -> list[Prototypes]:
        return [part for _, part in self.named_modules(remove_duplicate=False) if isinstance(part, Prototypes)]


class PrototypesHead(PrototypeScores):
    """SwAV's head: z = MLP(x) (B, dims[-1]), scaled to length 1, and its scores z C_i^T for each matrix of prototypes.

    Outputs: z, if `return_embedding`, then (B, num_prototypes[i]) for each i. Caron et al. 2020 (arXiv 2006.09882),
    section 3.2 and appendix A. Several matrices: DeepCluster v2.

    Args:
        dims: output width of each linear layer; the last is the width of z.
        num_prototypes: rows of each matrix; empty: none; null: a matrix of 3000 (appendix A), or of one for 5 images.
        use_bn: batch normalization after each linear layer but a bare last one.
        use_bias: linear layers have a bias.
        activation: after each linear layer but a bare last one.
        last_layer_bare: the last layer is linear only.
        normalize: scale z to length 1.
        return_embedding: z is the first output.
        scale: lengths of the prototypes.
        bn_eps: added to the variance in batch normalization.
        bn_momentum: weight of the newest batch in the running mean and variance.
    """

    def __init__(
        self,
        *,
        dims: Annotated[list[Annotated[int, Gt(0)]], Len(1)],
        num_prototypes: Annotated[list[Annotated[int, Gt(0)]], MayBeInferred()],
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        use_bn: bool = True,
        use_bias: bool = True,
        activation: Activation = Activation.RELU,
        last_layer_bare: bool = True,
        normalize: bool = True,
        return_embedding: bool = True,
        scale: Scale = Scale.FREE,
        bn_eps: Annotated[float, Gt(0)] = BN_EPS,
        bn_momentum: Annotated[float, Gt(0), Le(1)] = BN_MOMENTUM,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.dims, self.num_prototypes = in_dim, dims, list(num_prototypes)
        self.use_bias, self.last_layer_bare, self.use_bn, self.bn_eps = use_bias, last_layer_bare, use_bn, bn_eps
        self.bn_momentum, self.activation, self.scale, self.normalize = bn_momentum, activation, scale, normalize
        self.return_embedding = return_embedding
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise([in_dim, *dims])):
            layers.append(nn.Linear(before, after, bias=use_bias))
            if not (last_layer_bare and index == len(dims) - 1):
                layers += [nn.BatchNorm1d(after, eps=bn_eps, momentum=bn_momentum)] if use_bn else []
                layers += activation.layers()
        self.layers = nn.Sequential(*layers)
        self.prototypes = nn.ModuleList([Prototypes(count, dims[-1], scale) for count in num_prototypes])

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from fewer("num_prototypes", 3000, 5, facts, several=1)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if not config.use_bn and (config.bn_eps, config.bn_momentum) != (BN_EPS, BN_MOMENTUM):
            yield Problem("bn_eps", "bn_eps and bn_momentum have no effect without use_bn")

    @property
    def out_dim(self) -> int:
        return self.out_dims[0]

    @property
    def out_dims(self) -> Sequence[int]:
        return [*(self.dims[-1:] if self.return_embedding or not self.num_prototypes else []), *self.num_prototypes]

    def forward(self, features: Float[Tensor, "B D *pixels"]) -> list[Tensor]:
        z = self.layers(features.flatten(1))
        if self.normalize:
            z = F.normalize(z, dim=1)
        scores = [prototypes(z) for prototypes in self.prototypes]
        return [z, *scores] if self.return_embedding or not scores else scores


class DINOHead(PrototypeScores):
    """DINO's head: an MLP to a bottleneck of length 1, then prototypes of fixed length: (B, in_dim) -> (B, K).

    Linear layers start from a normal distribution of deviation 0.02, cut at 2 (absolute), biases at 0. With one layer
    the MLP is a linear layer to the bottleneck. Caron et al. 2021 (arXiv 2104.14294), appendix C.

    Args:
        num_prototypes: K; 65536 in the paper; null: as many, or one for 5 images.
        num_layers: linear layers of the MLP.
        hidden_dim: width of its hidden layers.
        bottleneck_dim: width of its output.
        use_bn: batch normalization after each hidden layer.
        scale: lengths of the prototypes; fixed in the paper.
    """

    def __init__(
        self,
        *,
        num_prototypes: Annotated[int, Gt(0), MayBeInferred()] = 65536,
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        num_layers: Annotated[int, Ge(1)] = 3,
        hidden_dim: Annotated[int, Gt(0)] = 2048,
        bottleneck_dim: Annotated[int, Gt(0)] = 256,
        use_bn: bool = False,
        scale: Scale = Scale.ONE,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.num_prototypes, self.num_layers = in_dim, num_prototypes, num_layers
        self.hidden_dim, self.bottleneck_dim, self.use_bn, self.scale = hidden_dim, bottleneck_dim, use_bn, scale
        widths = [in_dim, *[hidden_dim] * (num_layers - 1), bottleneck_dim]
        self.layers = gelu_mlp(widths, nn.BatchNorm1d if use_bn else None)
        self.prototypes = Prototypes(num_prototypes, bottleneck_dim, scale)

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from fewer("num_prototypes", 65536, 5, facts)

    @property
    def out_dim(self) -> int:
        return self.num_prototypes

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        scores: Tensor = self.prototypes(F.normalize(self.layers(features), dim=-1))
        return scores


def gelu_mlp(
    widths: Sequence[int], norm: Optional[Callable[[int], nn.Module]], activation: Activation = Activation.GELU
) -> nn.Sequential:
    """Linear layers of these widths with norm and activation between them, started as DINO's."""
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(widths)):
        linear = nn.Linear(before, after)
        if not linear.weight.is_meta:
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        layers.append(linear)
        if index < len(widths) - 2:
            layers += [] if norm is None else [norm(after)]
            layers += activation.layers()
    return nn.Sequential(*layers)


class MSNHead(Head):
    """q = MLP(x), of length 1, (B, D); p = softmax(q C^T / T) L (B, K), C prototypes of length 1, L smoothed labels.

    Three linear layers with GELU between them; L = (1 - s) I + s / K. Assran et al. 2022 (arXiv 2204.07141), section 3.
    `MSNLoss` has prototypes of its own and reads an embedding (MLPHead); this head is for distillation and for weights
    of others. Prototypes start uniform in +-1/sqrt(D).

    Args:
        num_prototypes: K.
        hidden_dim: width of the hidden layers.
        embedding_dim: D.
        use_bn: batch normalization after each hidden layer.
        temperature: T.
        label_smoothing: s.
        freeze_prototypes: prototypes do not learn.
        return_embedding: q is the second output.
    """

    def __init__(
        self,
        *,
        num_prototypes: Annotated[int, Gt(0)] = 1024,
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        hidden_dim: Annotated[int, Gt(0)] = 2048,
        embedding_dim: Annotated[int, Gt(0)] = 256,
        use_bn: bool = False,
        temperature: Annotated[float, Gt(0)] = 0.1,
        label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0,
        freeze_prototypes: bool = False,
        return_embedding: bool = False,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.hidden_dim, self.use_bn, self.num_prototypes = in_dim, hidden_dim, use_bn, num_prototypes
        self.embedding_dim, self.freeze_prototypes = embedding_dim, freeze_prototypes
        self._dims = (num_prototypes, embedding_dim) if return_embedding else (num_prototypes,)
        self.temperature, self.label_smoothing, self.return_embedding = temperature, label_smoothing, return_embedding
        self.layers = nn.Sequential()
        for before, after in ((in_dim, hidden_dim), (hidden_dim, hidden_dim)):
            self.layers.append(nn.Linear(before, after))
            self.layers.extend([nn.BatchNorm1d(after)] if use_bn else [])
            self.layers.append(nn.GELU())
        self.layers.append(nn.Linear(hidden_dim, embedding_dim))
        bound = embedding_dim**-0.5
        start = torch.empty(num_prototypes, embedding_dim).uniform_(-bound, bound)
        self.prototypes = nn.Parameter(start, requires_grad=not freeze_prototypes)

    @property
    def out_dim(self) -> int:
        return self._dims[0]

    @property
    def out_dims(self) -> Sequence[int]:
        return self._dims

    def forward(self, features: Float[Tensor, "B D"]) -> list[Tensor]:
        q = F.normalize(self.layers(features), dim=1)
        p = F.softmax(q @ F.normalize(self.prototypes, dim=1).T / self.temperature, dim=1)
        p = (1 - self.label_smoothing) * p + self.label_smoothing / p.shape[1]
        return [p, q] if self.return_embedding else [p]


DINOHeadConf = config_for(DINOHead)
PrototypesHeadConf = config_for(PrototypesHead)
MSNHeadConf = config_for(MSNHead)

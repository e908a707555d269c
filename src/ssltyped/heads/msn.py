"""The head of MSN: an embedding, and which prototypes it is assigned to."""

from collections.abc import Sequence
from typing import Annotated, Optional

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, config_for
from ssltyped.types import Head


class MSNHead(Head):
    """q = MLP(x), of length 1, (B, D); p = softmax(q C^T / T) L (B, K), C prototypes of length 1, L smoothed labels.

    Three linear layers with GELU between them; L = (1 - s) I + s / K. Assran et al. 2022 (arXiv 2204.07141), section 3.
    `MSNLoss` has prototypes of its own and reads an embedding (MLPHead); this head is for distillation and for weights
    of others. Prototypes start uniform in +-1/sqrt(D).

    Args:
        num_prototypes: K.
        in_dim: width of the feature that is read; null: inferred from the trunk.
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


MSNHeadConf = config_for(MSNHead)

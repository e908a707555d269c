"""MSN: masked views are assigned to the prototypes that the whole view is assigned to."""

import math
from collections.abc import Iterable
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.losses.outputs import full_precision, inferred_width, more_than_images, precise
from ssltyped.losses.teacher import TaughtLoss
from ssltyped.types import Batch, Facts, Inference, LossRange, Model, Moment, Problem, Signals, StepOutput, fewer


class MSNLoss(TaughtLoss):
    """Masked siamese networks (Assran et al. 2022, arXiv 2204.07141, eq. 1 and 2).

    View 0 is the target: the teacher sees it whole. The other A views are anchors: the student sees them masked, where
    the data masks them. With prototypes q_k of length 1 (K, D) and normalized embeddings z,

        p = softmax_k(z . q_k / T)      p+ = p_t^(1 / sharpening), normalized, without gradient
        loss = mean over the A B anchors of H(p+, p)  -  lambda_entropy H(mean p)

    H(a, b) is the cross entropy, H(mean p) the entropy of the mean of p over all anchors of the world, with gradient.
    The prototypes belong to the loss and learn; the teacher moves by a momentum that rises to 1 along a cosine.
    Memory grows as A B K, time as A B K D. Logs `entropy`, H(mean p) in nats: log K when all prototypes are used.

    Raises:
        ValueError: fewer than 2 views, or a head that has not exactly one output.

    Args:
        embedding_dim: D, its width.
        num_prototypes: K; 1024 (section 4); null: one for 5 images.
        temperature: T; 0.1.
        sharpening: of the target; 0.25.
        lambda_entropy: weight of the mean entropy maximization; 1.
        momentum: of the teacher at the start; 0.996; null: what suits the steps of the run.
    """

    takes_masks = True
    whole_batch = "the mean entropy is that of the anchors of one batch"

    def __init__(
        self,
        *,
        head: str = INFERRED,
        embedding_dim: Annotated[int, Gt(0)] = INFERRED,
        num_prototypes: Annotated[int, Gt(1), MayBeInferred()] = 1024,
        temperature: Annotated[float, Gt(0)] = 0.1,
        sharpening: Annotated[float, Gt(0), Le(1)] = 0.25,
        lambda_entropy: Annotated[float, Ge(0)] = 1.0,
        momentum: Annotated[float, Ge(0), Le(1), MayBeInferred()] = 0.996,
    ) -> None:
        super().__init__()
        self.head = head
        self.embedding_dim, self.num_prototypes, self.temperature = embedding_dim, num_prototypes, temperature
        self.sharpening, self.lambda_entropy, self.momentum = sharpening, lambda_entropy, momentum
        bound = embedding_dim**-0.5
        self.prototypes = nn.Parameter(torch.empty(num_prototypes, embedding_dim).uniform_(-bound, bound))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from inferred_width("embedding_dim", config.head, facts)
        yield from fewer("num_prototypes", 1024, 5, facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if facts.num_views < 2:
            yield Problem("", f"MSN needs a target and at least one anchor view; the data makes {facts.num_views} view")
        if facts.mask_grids and facts.mask_grids[0] is not None:
            yield Problem("", "MSN's target is view 0, which the teacher sees whole; the data masks it")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        yield from more_than_images("num_prototypes", config.num_prototypes, "prototypes", facts)
        if config.lambda_entropy == 0:
            message = "got 0: nothing keeps all images from one prototype"
            yield Problem("lambda_entropy", f"{message} (Assran et al. 2022, section 3); 1 is usual")

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        if len(batch.views) < 2:
            raise ValueError("MSN needs a target and at least one anchor view; the batch has 1")
        anchors = len(batch.views) - 1
        log_p = self.log_p(model(batch.views[1:], masks=batch.masks[1:], heads=[self.head]).of(self.head))
        with torch.no_grad():
            whole = self.log_p(self.teacher(batch.views[:1], heads=[self.head]).of(self.head))
            target = F.softmax(whole / self.sharpening, dim=1)
        cross = -(target.repeat(anchors, 1) * log_p).sum(dim=1).mean()
        entropy = torch.special.entr(distributed.mean_over_ranks(log_p.exp().mean(dim=0))).sum()
        most = math.log(self.num_prototypes)
        expected = LossRange(
            lowest=-self.lambda_entropy * most,
            highest=most + 2 / self.temperature,
            uniform=(1 - self.lambda_entropy) * most,
        )
        loss = cross - self.lambda_entropy * entropy
        first = log_p.detach()[: len(target)]
        signals = Signals(targets=(target,), taught=((whole, first),), teachers=(self.teacher.model,))
        return StepOutput(loss=loss, logs={"entropy": entropy.detach()}, expected=expected, signals=signals)

    def log_p(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """log of p in the equation."""
        z = precise(z)
        prototypes = F.normalize(self.prototypes.to(z.dtype), dim=1)
        with full_precision(z):
            return F.log_softmax(F.normalize(z, dim=1) @ prototypes.T / self.temperature, dim=1)


MSNLossConf = config_for(MSNLoss)

"""Barlow Twins: the cross-correlation of two views' embeddings is to be the identity."""

from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Self

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import INFERRED, config_for
from ssltyped.losses.outputs import full_precision, precise
from ssltyped.types import Batch, Facts, Loss, LossRange, Model, Moment, Problem, StepOutput

EPS = 1e-5
LEAST_OFF = 0.01
"""The least weight of all off-diagonal terms of a row against its diagonal one; 42 in the paper, of 8192 features."""


class Standardize(Enum):
    """Over which rows features are standardized: those of each view, or of both views together."""

    VIEW = "view"
    JOINT = "joint"


class BarlowTwinsLoss(Loss):
    """Redundancy reduction (Zbontar et al. 2021, arXiv 2103.03230, eq. 1 and 2).

    The head's output z (2B, D) holds the first views, then the second ones. Each feature is standardized over all
    ranks, with the biased variance and eps 1e-5, in each view by itself (algorithm 1; VISSL does so over both views
    together, where views of two distributions never agree); over the N images of the world,

        C = 1/N  sum_n a_n b_n^T          (a, b: the standardized views; D x D)
        loss = scale ( sum_i (1 - C_ii)^2 + lambda_off sum_{i != j} C_ij^2 )

    The statistics and C are those of all ranks, with gradient. In the authors' code each view goes through the network
    alone, as it does here unless `passes` of the experiment says otherwise. Memory grows as D^2 for C and B D for the
    embeddings, time as B D^2. Logs `diagonal`, the mean of C_ii: 1 when the views agree.

    Raises:
        ValueError: a batch that has not exactly 2 views, or a head that has not exactly one output.

    Args:
        lambda_off: weight of the off-diagonal terms; 0.0051 in the paper (section 2.2).
        scale: factor of the whole loss; 0.024 in the paper's code.
        standardize: over what a feature gets mean 0 and variance 1.
    """

    views_apart = True
    whole_batch = "the cross-correlation is that of one batch"

    def __init__(
        self,
        *,
        head: str = INFERRED,
        lambda_off: Annotated[float, Gt(0)] = 0.0051,
        scale: Annotated[float, Gt(0)] = 0.024,
        standardize: Standardize = Standardize.VIEW,
    ) -> None:
        super().__init__()
        self.head, self.lambda_off, self.scale, self.standardize = head, lambda_off, scale, standardize

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if facts.num_views != 2:
            yield Problem("", f"Barlow Twins needs exactly 2 views of every image; the data makes {facts.num_views}")
        if facts.batch_size * facts.world_size < 2:
            yield Problem("", "Barlow Twins needs at least 2 images in the world, to have a correlation; there is 1")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        for width in facts.widths(config.head)[:1]:
            if (share := config.lambda_off * (width - 1)) < LEAST_OFF:
                message = f"got {config.lambda_off:g}: {width} features that are all the same would cost {share:.2g} of"
                remedy = f"nothing keeps them apart; {5 / width:.2g} and more is usual for this width"
                yield Problem("lambda_off", f"{message} what features that do not agree cost: {remedy}")

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        if len(batch.views) != 2:
            raise ValueError(f"Barlow Twins needs exactly 2 views of every image; the batch has {len(batch.views)}")
        z = precise(model(batch.views, heads=[self.head]).of(self.head))
        with full_precision(z):
            joint = self.standardize is Standardize.JOINT
            a, b = standardized(z).chunk(2) if joint else standardized(torch.stack(z.chunk(2))).unbind()
            c = distributed.mean_over_ranks(a.T @ b / len(a))
        diagonal = c.diagonal()
        off = c.square().sum() - diagonal.square().sum()
        loss = self.scale * ((diagonal - 1).square().sum() + self.lambda_off * off)
        width = len(diagonal)
        highest = self.scale * width * (4 + self.lambda_off * (width - 1))
        expected = LossRange(highest=highest, uniform=self.scale * width)  # of equal outputs C is 0
        return StepOutput(loss=loss, logs={"diagonal": diagonal.detach().mean()}, expected=expected)


BarlowTwinsLossConf = config_for(BarlowTwinsLoss)


def standardized(x: Float[Tensor, "*views B D"], eps: float = EPS) -> Float[Tensor, "*views B D"]:
    """(x - mean) / sqrt(var + eps) over the rows of all ranks, with the biased variance and gradient through both."""
    centred = x - distributed.mean_over_ranks(x.mean(dim=-2, keepdim=True))
    return centred / torch.sqrt(distributed.mean_over_ranks(centred.square().mean(dim=-2, keepdim=True)) + eps)

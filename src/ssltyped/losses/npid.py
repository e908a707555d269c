"""NPID, NPID++ and PIRL: every image is its own class, held in a memory bank of embeddings."""

import math
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.hashing import mixed
from ssltyped.losses.outputs import full_precision, inferred_width, more_than_images, precise, softmax_range
from ssltyped.types import (
    Batch,
    Carry,
    Facts,
    Inference,
    Loss,
    LossRange,
    Model,
    Moment,
    Problem,
    Signals,
    StepOutput,
    fewer,
)

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
"""The distance of splitmix64's states, as a signed number."""


class Contrast(Enum):
    """How an embedding must tell its image: among drawn noise images one by one (NCE), or by a softmax (INFO_NCE)."""

    NCE = "nce"
    INFO_NCE = "info_nce"


class MemoryBankLoss(Loss):
    """Instance discrimination against a memory bank (NPID: Wu et al. 2018, arXiv 1805.01978, eq. 2 to 9).

    The bank M (N, D) holds an embedding of length 1 of each of the N images. For every head that is read,
    v = z / |z| (B, D) of the image with index y, K noise images are drawn uniformly with replacement, x_0 = y:

        s_j = M_{x_j} . v / T,   P_j = exp(s_j) / Z
        NCE:       loss = - log( P_0 / (P_0 + K/N) ) - sum_{j >= 1} log( (K/N) / (P_j + K/N) ),  mean over images
        INFO_NCE:  loss = - log( exp(s_0) / sum_j exp(s_j) )                                    (NPID++, PIRL)

    Z is N times the mean of exp(s) over the first batch of the world, then fixed (section 3.2), or `norm_constant`. The
    first batch is compared with a random bank: when embeddings and bank have come closer, P may be far above 1 and the
    loss grow without bound, the more the fewer images there are. With `norm_constant_momentum` m below 1 each step
    moves it: Z <- m Z + (1 - m) N mean of exp(s).
    With several heads (PIRL, Misra and van der Maaten 2020, arXiv 1912.01991: the image and its patches) the losses
    are added with `loss_weights`. After the update the bank moves by the embeddings of all ranks, of the output
    `memory_head` or of each head in turn: M_y <- normalized(momentum M_y + (1 - momentum) v). The noise is a
    function of (step, image, place), the same on any number of ranks. Memory grows as N D for the bank, on every rank,
    and B K D for the noise, time as B K D.

    Raises:
        ValueError: numbers of heads and `loss_weights` that differ, or a head that has not exactly one output.

    Args:
        embedding_dim: D, their width.
        num_images: N; how many images there are to train on.
        contrast: NCE, or a softmax.
        num_negatives: K; 4096 in the paper (section 3.2), 32000 in NPID++ and PIRL; null: 4096, or half of the images.
        temperature: T; 0.07 (section 3.1).
        momentum: of the bank; 0.5 in the authors' code.
        loss_weights: of each head's loss.
        memory_head: the head that moves the bank; null: each of them.
        norm_constant: Z; null: from the first batch.
        norm_constant_momentum: what is kept of Z in each step; 1: it is fixed, as in the paper; 0.99 for few images.
        normalize: scale embeddings to length 1.
    """

    same_on_all_ranks = ("memory", "z")

    def __init__(
        self,
        *,
        heads: list[str] = INFERRED,
        embedding_dim: Annotated[int, Gt(0)] = INFERRED,
        num_images: Annotated[int, Gt(0)] = INFERRED,
        contrast: Contrast = Contrast.NCE,
        num_negatives: Annotated[int, Gt(0), MayBeInferred()] = 4096,
        temperature: Annotated[float, Gt(0)] = 0.07,
        momentum: Annotated[float, Ge(0), Le(1)] = 0.5,
        loss_weights: list[Annotated[float, Ge(0)]] = [1.0],  # noqa: B006  # never changed
        memory_head: Optional[str] = None,
        norm_constant: Optional[Annotated[float, Gt(0)]] = None,
        norm_constant_momentum: Annotated[float, Ge(0), Le(1)] = 1.0,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.heads = list(heads)
        if len(heads) != len(loss_weights):
            raise ValueError(f"loss_weights has {len(loss_weights)} values for the heads {', '.join(heads)}: one each")
        self.embedding_dim, self.num_images, self.contrast = embedding_dim, num_images, contrast
        self.num_negatives, self.temperature, self.momentum = num_negatives, temperature, momentum
        self.loss_weights, self.memory_head, self.normalize = list(loss_weights), memory_head, normalize
        self.norm_constant, self.norm_constant_momentum = norm_constant, norm_constant_momentum
        bound = (embedding_dim / 3) ** -0.5
        self.memory = nn.Buffer(F.normalize(torch.empty(num_images, embedding_dim).uniform_(-bound, bound), dim=1))
        self.z: Tensor = nn.Buffer(torch.tensor(-1.0 if norm_constant is None else norm_constant))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from inferred_width("embedding_dim", next(iter(config.heads or []), None), facts)
        yield from fewer("num_negatives", 4096, 2, facts)
        if facts.num_images is not None:
            yield Inference("num_images", facts.num_images, "images to train on: each has a place in the bank")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        heads = config.heads or []
        if heads and len(heads) != len(config.loss_weights):
            message = f"has {len(config.loss_weights)} values for the heads {', '.join(heads)}: one each"
            yield Problem("loss_weights", message)
        widths = {head: facts.widths(head)[0] for head in heads if facts.widths(head)}
        if len(set(widths.values())) > 1:
            yield Problem("embedding_dim", f"the heads are {widths} wide; the bank needs one width")
        if config.memory_head is not None and config.memory_head not in heads:
            yield Problem("memory_head", f"got {config.memory_head!r}; the method reads {', '.join(heads)}")
        if config.contrast is Contrast.NCE and config.norm_constant is None and facts.accumulation > 1:
            message = "Z is estimated on the first batch, which one of several accumulated ones is not"
            yield Problem("norm_constant", f"{message}: give it, or set accumulation=1")
        if config.contrast is Contrast.INFO_NCE and config.norm_constant is not None:
            yield Problem("norm_constant", "has no effect with info_nce: leave it out")
        if config.norm_constant_momentum < 1 and (config.norm_constant or config.contrast is Contrast.INFO_NCE):
            why = "with info_nce" if config.contrast is Contrast.INFO_NCE else "on a norm_constant that is given"
            yield Problem("norm_constant_momentum", f"has no effect {why}: leave one of them out")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        yield from more_than_images("num_negatives", config.num_negatives, "negatives an image", facts, images_each=2)

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        found = model(batch.views, heads=self.heads)
        rows = [precise(found.of(head)) for head in self.heads]
        embeddings = [F.normalize(z, dim=1) if self.normalize else z for z in rows]
        index = batch.index.repeat(max(1, len(rows[0]) // len(batch.index)))
        scores = [
            self.scores(v, torch.cat([index[:, None], self.noise(index, place, moment)], dim=1))
            for place, v in enumerate(embeddings)
        ]
        estimate = self.estimate(scores[0])
        z = self.constant(estimate)
        losses = [weight * self.discriminate(s, z) for weight, s in zip(self.loss_weights, scores, strict=True)]
        moved = {f"heads.{name}": v.detach() for name, v in zip(self.heads, embeddings, strict=True)}
        expected = self.expected() * sum(self.loss_weights)
        carry = {"index": index, "z": estimate, **moved}
        signals = Signals(memories=((self.memory, len(batch.index) * distributed.world_size()),))
        return StepOutput(loss=torch.stack(losses).sum(), carry=carry, expected=expected, signals=signals)

    def expected(self) -> LossRange:
        """Of one head. Where Z fits, NCE's noise images cost K log(1 + 1 / K), about 1; the own one as in a softmax."""
        own = softmax_range(1 + self.num_negatives, self.temperature if self.normalize else None)
        if self.contrast is Contrast.INFO_NCE:
            return own
        noise = self.num_negatives * math.log1p(1 / self.num_negatives)
        remedy = "the constant Z does not fit any more: set its norm_constant_momentum=0.99, or contrast=info_nce"
        return own + LossRange(highest=noise, uniform=noise, remedy=remedy)

    def noise(self, index: Int64[Tensor, "B"], place: int, moment: Moment) -> Int64[Tensor, "B K"]:
        """The noise images of a step: any image, also the own one, as in the authors' code."""
        stream = moment.step * len(self.loss_weights) + place
        return draw(index, self.num_negatives, self.num_images, stream=stream)

    def scores(self, v: Float[Tensor, "B D"], images: Int64[Tensor, "B J"]) -> Float[Tensor, "B J"]:
        """s of the equation for the images of these numbers, the first of which is the own one."""
        with full_precision(v):
            return torch.einsum("bjd,bd->bj", self.memory[images].to(v.dtype), v) / self.temperature

    def discriminate(self, s: Float[Tensor, "B J"], z: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The loss of scores, those of the own images first."""
        if self.contrast is Contrast.INFO_NCE:
            return F.cross_entropy(s, torch.zeros(len(s), dtype=torch.int64, device=s.device))
        log_p = s - torch.log(z)
        log_noise = math.log((s.shape[1] - 1) / self.num_images)
        own = -F.logsigmoid(log_p[:, 0] - log_noise)
        noise = -F.logsigmoid(log_noise - log_p[:, 1:])
        return (own + noise.sum(dim=1)).mean()

    def constant(self, estimate: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Z: the one that is kept, or in the first step the estimate."""
        return torch.where(self.z > 0, self.z.to(estimate.dtype), estimate)

    @torch.no_grad()
    def estimate(self, s: Float[Tensor, "B J"]) -> Float[Tensor, ""]:
        """Z as the scores of a batch say, where it is used."""
        if self.contrast is Contrast.INFO_NCE or self.norm_constant is not None:
            return self.z
        return self.num_images * distributed.all_reduce_mean(s.exp().mean())

    @torch.no_grad()
    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        for carry in carries:
            index = distributed.gather_no_grad(carry["index"])
            for head in self.heads if self.memory_head is None else [self.memory_head]:
                self.move(index, distributed.gather_no_grad(carry[f"heads.{head}"]))
        if self.contrast is Contrast.NCE:
            said = torch.stack([carry["z"] for carry in carries]).mean().to(self.z.dtype)
            # Where it is kept as it is, an estimate that overflowed must not count, not even 0 times.
            fixed = self.norm_constant_momentum == 1
            moved = self.z if fixed else torch.lerp(said, self.z, self.norm_constant_momentum)
            self.z.copy_(torch.where(self.z > 0, moved, said))

    def move(self, index: Int64[Tensor, "N"], embedding: Float[Tensor, "N D"]) -> None:
        """Update the bank; of an image that is there several times, the last row counts, on every rank and device."""
        ordered, order = index.sort(stable=True)
        last = order[torch.searchsorted(ordered, index, right=True) - 1]
        old = self.memory[index]
        self.memory[index] = F.normalize(torch.lerp(embedding[last].to(old.dtype), old, self.momentum), dim=1)


def draw(index: Int64[Tensor, "B"], count: int, below: int, stream: int) -> Int64[Tensor, "B K"]:
    """`count` numbers in [0, below) for each index, uniform and with replacement, a hash of (stream, index, place).

    The remainder of 63 bits: no number is likelier than another by more than below / 2^63.
    """
    places = torch.arange(1, count + 1, device=index.device)
    base = mixed(mixed(index) + stream)
    words: Tensor = mixed(base[:, None] + places * _GAMMA) & (2**63 - 1)
    numbers: Tensor = words % below
    return numbers


MemoryBankLossConf = config_for(MemoryBankLoss)

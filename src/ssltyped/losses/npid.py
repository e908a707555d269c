"""NPID, NPID++ and PIRL: every image is its own class, held in a memory bank of embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import config_for
from ssltyped.losses.draws import draw
from ssltyped.losses.outputs import full_precision, precise
from ssltyped.losses.state import CountingLoss
from ssltyped.types import Batch, Facts, Inference, Model, Problem, StepOutput


class Contrast(Enum):
    """How an embedding must tell its image: among drawn noise images one by one (NCE), or by a softmax (INFO_NCE)."""

    NCE = "nce"
    INFO_NCE = "info_nce"


class MemoryBankLoss(CountingLoss):
    """Instance discrimination against a memory bank (NPID: Wu et al. 2018, arXiv 1805.01978, eq. 2 to 9).

    The bank M (N, D) holds an embedding of length 1 of each of the N images. For every output of the model,
    v = z / |z| (B, D) of the image with index y, K noise images are drawn uniformly with replacement, x_0 = y:

        s_j = M_{x_j} . v / T,   P_j = exp(s_j) / Z
        NCE:       loss = - log( P_0 / (P_0 + K/N) ) - sum_{j >= 1} log( (K/N) / (P_j + K/N) ),  mean over images
        INFO_NCE:  loss = - log( exp(s_0) / sum_j exp(s_j) )                                    (NPID++, PIRL)

    Z is N times the mean of exp(s) over the first batch of the world, then fixed (section 3.2), or `norm_constant`.
    With several outputs (PIRL, Misra and van der Maaten 2020, arXiv 1912.01991: the image and its patches) the losses
    are added with `loss_weights`. After the update the bank moves by the embeddings of all ranks, of the output
    `memory_output` or of each output in turn: M_y <- normalized(momentum M_y + (1 - momentum) v). The noise is a
    function of (step, image, place), the same on any number of ranks. Memory grows as N D for the bank, on every rank,
    and B K D for the noise, time as B K D.

    Raises:
        ValueError: numbers of outputs and `loss_weights` that differ.

    Args:
        embedding_dim: D, width of the model's outputs.
        num_images: N; how many images there are to train on.
        contrast: NCE, or a softmax.
        num_negatives: K; 4096 in the paper (section 3.2), 32000 in NPID++ and PIRL.
        temperature: T; 0.07 (section 3.1).
        momentum: of the bank; 0.5 in the authors' code.
        loss_weights: of each output's loss.
        memory_output: the output that moves the bank; null: each of them.
        norm_constant: Z; null: from the first batch.
        normalize: scale embeddings to length 1.
    """

    same_on_all_ranks = ("memory", "z")
    memory: Tensor
    z: Tensor

    def __init__(
        self,
        *,
        embedding_dim: Optional[Annotated[int, Gt(0)]] = None,
        num_images: Optional[Annotated[int, Gt(0)]] = None,
        contrast: Contrast = Contrast.NCE,
        num_negatives: Annotated[int, Gt(0)] = 16000,
        temperature: Annotated[float, Gt(0)] = 0.07,
        momentum: Annotated[float, Ge(0), Le(1)] = 0.5,
        loss_weights: list[Annotated[float, Ge(0)]] = [1.0],  # noqa: B006  # never changed
        memory_output: Optional[Annotated[int, Ge(0)]] = None,
        norm_constant: Optional[Annotated[float, Gt(0)]] = None,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if embedding_dim is None or num_images is None:
            raise ValueError("embedding_dim and num_images are needed: give them, or resolve the config first")
        self.embedding_dim, self.num_images, self.contrast = embedding_dim, num_images, contrast
        self.num_negatives, self.temperature, self.momentum = num_negatives, temperature, momentum
        self.loss_weights, self.memory_output, self.normalize = list(loss_weights), memory_output, normalize
        self.norm_constant = norm_constant
        bound = (embedding_dim / 3) ** -0.5
        rows = torch.empty(num_images, embedding_dim).uniform_(-bound, bound)
        self.register_buffer("memory", F.normalize(rows, dim=1))
        self.register_buffer("z", torch.tensor(-1.0 if norm_constant is None else norm_constant))
        self._first_z: Optional[Tensor] = None
        self._new: list[tuple[Tensor, list[Tensor]]] = []

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if facts.output_dims:
            yield Inference("embedding_dim", facts.output_dims[0], "width of the model's first output")
        if facts.num_images is not None:
            yield Inference("num_images", facts.num_images, "images to train on: each has a place in the bank")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        outputs = len(facts.output_dims)
        if outputs and outputs != len(config.loss_weights):
            message = f"has {len(config.loss_weights)} values, and the model {outputs} outputs: one each"
            yield Problem("loss_weights", message)
        if len(set(facts.output_dims)) > 1:
            yield Problem("embedding_dim", f"the outputs are {facts.output_dims} wide; the bank needs one width")
        if config.memory_output is not None and config.memory_output >= len(config.loss_weights):
            yield Problem(
                "memory_output", f"got {config.memory_output}; there are {len(config.loss_weights)} outputs, from 0"
            )
        if config.contrast is Contrast.INFO_NCE and config.norm_constant is not None:
            yield Problem("norm_constant", "has no effect with info_nce: leave it out")

    def step(self, model: Model, batch: Batch) -> StepOutput:
        outputs = model(batch.views)
        if len(outputs) != len(self.loss_weights):
            message = f"loss_weights has {len(self.loss_weights)} values, and the model gives {len(outputs)} outputs"
            raise ValueError(message)
        embeddings = [F.normalize(precise(z), dim=1) if self.normalize else precise(z) for z in outputs]
        views = max(1, len(embeddings[0]) // len(batch.index))
        index = batch.index.repeat(views)
        self._new.append((index, [embedding.detach() for embedding in embeddings]))
        losses = [
            weight * self.discriminate(v, torch.cat([index[:, None], self.noise(index, place)], dim=1))
            for place, (weight, v) in enumerate(zip(self.loss_weights, embeddings, strict=True))
        ]
        return StepOutput(loss=torch.stack(losses).sum())

    def noise(self, index: Int64[Tensor, "B"], place: int) -> Int64[Tensor, "B K"]:
        """The noise images of the next step: any image, also the own one, as in the authors' code."""
        return draw(index, self.num_negatives, self.num_images, stream=self.steps_done * len(self.loss_weights) + place)

    def discriminate(self, v: Float[Tensor, "B D"], images: Int64[Tensor, "B J"]) -> Float[Tensor, ""]:
        """The loss of embeddings against the images of these numbers, the first of which is the own one."""
        with full_precision(v):
            s = torch.einsum("bjd,bd->bj", self.memory[images].to(v.dtype), v) / self.temperature
        if self.contrast is Contrast.INFO_NCE:
            return F.cross_entropy(s, torch.zeros(len(s), dtype=torch.int64, device=s.device))
        log_p = s - torch.log(self.constant(s))
        log_noise = math.log((images.shape[1] - 1) / self.num_images)
        own = -F.logsigmoid(log_p[:, 0] - log_noise)
        noise = -F.logsigmoid(log_noise - log_p[:, 1:])
        return (own + noise.sum(dim=1)).mean()

    @torch.no_grad()
    def constant(self, s: Float[Tensor, "B J"]) -> Float[Tensor, ""]:
        """Z: the fixed one, or what it will be after this step, the first one."""
        if self._first_z is None:
            self._first_z = self.num_images * distributed.all_reduce_mean(s.exp().mean())
        return torch.where(self.z > 0, self.z.to(s.dtype), self._first_z.to(s.dtype))

    @torch.no_grad()
    def after_update(self, model: Model, progress: float) -> None:
        for index, embeddings in self._new:
            moving = (
                embeddings if self.memory_output is None else embeddings[self.memory_output : self.memory_output + 1]
            )
            for embedding in moving:
                self.move(distributed.gather_no_grad(index), distributed.gather_no_grad(embedding))
        if self._first_z is not None:
            self.z.copy_(torch.where(self.z > 0, self.z, self._first_z.to(self.z.dtype)))
        self._new.clear()
        self._first_z = None
        super().after_update(model, progress)

    def move(self, index: Int64[Tensor, "N"], embedding: Float[Tensor, "N D"]) -> None:
        """Update the bank; of an image that is there several times, the last row counts, on every rank and device."""
        ordered, order = index.sort(stable=True)
        last = order[torch.searchsorted(ordered, index, right=True) - 1]
        old = self.memory[index]
        self.memory[index] = F.normalize(torch.lerp(embedding[last].to(old.dtype), old, self.momentum), dim=1)


MemoryBankLossConf = config_for(MemoryBankLoss)

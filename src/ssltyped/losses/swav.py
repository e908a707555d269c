"""SwAV: the cluster of one view is predicted from another view of the same image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Len
from jaxtyping import Float
from torch import Tensor

from ssltyped.config import ConfigError, config_for
from ssltyped.losses.outputs import full_precision, precise
from ssltyped.losses.prototypes import parts_with_prototypes, prototypes_of
from ssltyped.losses.sinkhorn import assign, hard
from ssltyped.losses.state import CountingLoss, steps_from_epochs
from ssltyped.losses.teacher import MomentumTeacher
from ssltyped.types import Batch, Facts, Inference, Model, Problem, StepOutput


class SwAVLoss(CountingLoss):
    """Swapped assignments between views (Caron et al. 2020, arXiv 2006.09882, eq. 1, 2 and 4).

    The model gives the embedding z / |z| (V B, D) of V crops and, for each matrix C of K prototypes, the scores
    s = z C^T (V B, K). For each assign crop i the codes q_i = assign(s_i) of all images of the world are balanced over
    the prototypes by Sinkhorn and Knopp (see `ssltyped.losses.sinkhorn`), without gradient, and

        loss = mean over C and over i of  mean_{p != i}  mean_n  - sum_k q_i(n, k) log softmax_k(s_p(n) / T)

    With a queue, the embeddings of the last images take part in the assignment (scored by the prototypes of today),
    once the queue is full; it fills from `queue_start_steps` on. Prototypes are scaled to length 1 after each
    update. The queue of W ranks holds the images that one process's would; a run with a queue resumes on as many
    ranks. With a momentum encoder, theta_t <- m theta_t + (1 - m) theta_s, it sees the assign crops in eval mode;
    its scores make the codes, its embeddings fill the queue, and its prototypes score it. Memory grows as V B K,
    and as the queue's size x D; time as (V + Sinkhorn iterations) B K.

    Raises:
        ValueError: a model that does not give an embedding and scores, or fewer crops than `crops_for_assign` names.

    Args:
        temperature: T; 0.1 (appendix A).
        epsilon: of the assignment; the smaller, the sharper; 0.05 (appendix A).
        num_iters: Sinkhorn iterations; 3 (appendix A).
        crops_for_assign: the crops whose codes are predicted; the two of full resolution.
        hard_assignment_steps: for so many first steps codes are rounded to one prototype (section 3.1).
        hard_assignment_epochs: the same in epochs.
        queue_size: images in the queue, over all ranks; 0: none; 3840 for small batches (section 4.3).
        local_queue_size: images in the queue of one rank; follows from queue_size.
        queue_start_steps: step from which the queue is filled; 15 epochs in the paper's code.
        queue_start_epochs: the same in epochs.
        power_law: exponent of the shares of the prototypes; 0: equal shares.
        double_precision: compute the assignment in float64.
        normalize_prototypes: scale prototypes to length 1 after each update.
        momentum: m of the momentum encoder; null: codes are made by the model itself.
        embedding_dim: D, width of the embedding.
    """

    counters = ("steps_done", "filled")
    filled: int = 0
    queue: Tensor

    def __init__(
        self,
        *,
        temperature: Annotated[float, Gt(0)] = 0.1,
        epsilon: Annotated[float, Gt(0)] = 0.05,
        num_iters: Annotated[int, Ge(0)] = 3,
        crops_for_assign: Annotated[list[Annotated[int, Ge(0)]], Len(1)] = [0, 1],  # noqa: B006  # never changed
        hard_assignment_steps: Optional[Annotated[int, Ge(0)]] = None,
        hard_assignment_epochs: Optional[Annotated[float, Ge(0)]] = None,
        queue_size: Annotated[int, Ge(0)] = 0,
        local_queue_size: Optional[Annotated[int, Ge(0)]] = None,
        queue_start_steps: Optional[Annotated[int, Ge(0)]] = None,
        queue_start_epochs: Optional[Annotated[float, Ge(0)]] = None,
        power_law: Annotated[float, Ge(0)] = 0.0,
        double_precision: bool = False,
        normalize_prototypes: bool = True,
        momentum: Optional[Annotated[float, Ge(0), Le(1)]] = None,
        embedding_dim: Optional[Annotated[int, Gt(0)]] = None,
    ) -> None:
        super().__init__()
        self.temperature, self.epsilon, self.num_iters, self.power_law = temperature, epsilon, num_iters, power_law
        self.crops_for_assign, self.double_precision = list(crops_for_assign), double_precision
        self.normalize_prototypes, self.embedding_dim, self.momentum = normalize_prototypes, embedding_dim, momentum
        self.encoder: Optional[MomentumTeacher] = None
        self.hard_assignment_steps, self.hard_assignment_epochs = hard_assignment_steps, hard_assignment_epochs
        self.queue_start_steps, self.queue_start_epochs = queue_start_steps, queue_start_epochs
        self.queue_size, self.local_queue_size = (
            queue_size,
            queue_size if local_queue_size is None else local_queue_size,
        )
        if embedding_dim is None:
            raise ValueError("embedding_dim is None: give the width of the embedding, or resolve the config first")
        self.register_buffer("queue", torch.zeros(len(crops_for_assign), self.local_queue_size, embedding_dim))
        self._new: list[Tensor] = []

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if facts.output_dims:
            yield Inference("embedding_dim", facts.output_dims[0], "width of the model's first output")
        rule = f"{config.queue_size} images in the queue / {facts.world_size} ranks"
        yield Inference("local_queue_size", config.queue_size // facts.world_size, rule)
        hard_steps, queue_steps = config.hard_assignment_steps, config.queue_start_steps
        yield from steps_from_epochs("hard_assignment_steps", config.hard_assignment_epochs, hard_steps, facts)
        yield from steps_from_epochs("queue_start_steps", config.queue_start_epochs, queue_steps, facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.num_views < 2:
            yield Problem("", f"SwAV needs at least 2 crops of every image; the data makes {facts.num_views}")
        if max(config.crops_for_assign) >= facts.num_views:
            message = f"got {config.crops_for_assign}, but the data makes the crops 0 to {facts.num_views - 1}"
            yield Problem("crops_for_assign", message)
        if len(facts.output_dims) == 1:
            yield Problem(
                "", "SwAV needs an embedding and scores, as PrototypesHead gives them; the head has one output"
            )
        if config.queue_size % facts.global_batch_size:
            message = f"got {config.queue_size}, no multiple of the {facts.global_batch_size} images of a step"
            yield Problem("queue_size", message)

    def step(self, model: Model, batch: Batch) -> StepOutput:
        outputs = [precise(output) for output in model(batch.views)]
        if len(outputs) < 2:
            raise ValueError(
                f"{type(self).__name__} needs an embedding and scores; the model gives {len(outputs)} output"
            )
        if self.encoder is None:
            rows = [output.detach().chunk(len(batch.views)) for output in outputs]
            embedding, *targets = (torch.cat([crops[i] for i in self.crops_for_assign]) for crops in rows)
        else:
            views = [batch.views[i] for i in self.crops_for_assign]
            embedding, *targets = (precise(output) for output in self.encoder(views))
        self._new.append(torch.stack(embedding.chunk(len(self.crops_for_assign))))
        queue_scores = self.queue_scores(self.encoder or model) if self.uses_queue else []
        return StepOutput(loss=self.swapped(outputs[1:], targets, len(batch.views), queue_scores))

    def setup(self, model: Model) -> None:
        if self.local_queue_size and not prototypes_of(model):
            message = "no head has prototypes to score the queue with: use PrototypesHead"
            raise ConfigError([Problem("loss.queue_size", message)])
        if self.momentum is not None:
            self.encoder = MomentumTeacher(model, batch_statistics=False)

    @property
    def uses_queue(self) -> bool:
        return 0 < self.local_queue_size <= self.filled and self.steps_done >= (self.queue_start_steps or 0)

    def queue_scores(self, model: Model) -> list[Float[Tensor, "A L _"]]:
        """The scores of the queue by the model's prototypes."""
        with full_precision(self.queue):
            return [self.queue @ weight.detach().to(self.queue.dtype).T for weight in prototypes_of(model)]

    def swapped(
        self,
        scores: Sequence[Float[Tensor, "VB _"]],
        targets: Sequence[Float[Tensor, "AB _"]],
        num_crops: int,
        queue_scores: Sequence[Float[Tensor, "A L _"]] = (),
    ) -> Float[Tensor, ""]:
        """The equation of the class, for every matrix of prototypes; `targets` are the scores of the assign crops."""
        losses = []
        for head, (student, target) in enumerate(zip(scores, targets, strict=True)):
            log_p = F.log_softmax(student / self.temperature, dim=1).chunk(num_crops)
            images = len(log_p[0])
            for order, (crop, block) in enumerate(
                zip(self.crops_for_assign, target.chunk(len(self.crops_for_assign)), strict=True)
            ):
                queued = [queue_scores[head][order]] if queue_scores else []
                q = self.codes(torch.cat([block, *queued]))[:images]
                others = [-(q * log_p[p]).sum(dim=1).mean() for p in range(num_crops) if p != crop]
                losses.append(torch.stack(others).mean())
        return torch.stack(losses).mean()

    def codes(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """q of the equation."""
        q = assign(
            scores,
            epsilon=self.epsilon,
            num_iters=self.num_iters,
            power_law=self.power_law,
            double_precision=self.double_precision,
        )
        return hard(q) if self.steps_done < (self.hard_assignment_steps or 0) else q

    def after_update(self, model: Model, progress: float) -> None:
        for new in self._new:
            if self.local_queue_size and self.steps_done >= (self.queue_start_steps or 0):
                self.queue.copy_(torch.cat([new.to(self.queue.dtype), self.queue], dim=1)[:, : self.local_queue_size])
                self.filled = min(self.filled + new.shape[1], self.local_queue_size)
        self._new.clear()
        if self.normalize_prototypes:
            for part in parts_with_prototypes(model):
                part.normalize_prototypes()
        if self.encoder is not None and self.momentum is not None:
            self.encoder.update(model, self.momentum)
        super().after_update(model, progress)


SwAVLossConf = config_for(SwAVLoss)

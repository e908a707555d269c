"""SwAV: the cluster of one view is predicted from another view of the same image."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Len
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.losses.assignments import assign, hard
from ssltyped.losses.outputs import (
    BALANCED,
    PROTOTYPES,
    full_precision,
    inferred_width,
    more_than_images,
    parts_with_prototypes,
    precise,
    prototypes_of,
    softmax_range,
    wrong_crops,
)
from ssltyped.losses.state import CountingLoss, steps_from_epochs
from ssltyped.losses.teacher import MomentumTeacher, slow_teacher
from ssltyped.types import Batch, Carry, Facts, Inference, Model, Moment, Problem, Signals, StepOutput, queue


class SwAVLoss(CountingLoss):
    """Swapped assignments between views (Caron et al. 2020, arXiv 2006.09882, eq. 1, 2 and 4).

    The model gives the embedding z / |z| (V B, D) of V crops and, for each matrix C of K prototypes, the scores
    s = z C^T (V B, K). For each assign crop i the codes q_i = assign(s_i) of all images of the world are balanced over
    the prototypes by Sinkhorn and Knopp (see `ssltyped.losses.assignments`), without gradient, and

        loss = mean over C and over i of  mean_{p != i}  mean_n  - sum_k q_i(n, k) log softmax_k(s_p(n) / T)

    With a queue, the embeddings of the last images take part in the assignment (scored by the prototypes of today),
    once the queue is full; it fills from `queue_start_steps` on. Prototypes are scaled to length 1 after each
    update. The queue of W ranks holds the images that one process's would; a run with a queue resumes on as many
    ranks. With a momentum encoder, theta_t <- m theta_t + (1 - m) theta_s, it sees the assign crops in eval mode;
    its scores make the codes, its embeddings fill the queue, and its prototypes score it. Memory grows as V B K,
    and as the queue's size x D; time as (V + Sinkhorn iterations) B K.

    Raises:
        ValueError: a head that does not give an embedding and scores, or fewer crops than `crops_for_assign` names.

    Args:
        head: the head that is read, with an embedding and scores, as `PrototypesHead` gives them.
        temperature: T; 0.1 (appendix A).
        epsilon: of the assignment; the smaller, the sharper; 0.05 (appendix A).
        num_iters: Sinkhorn iterations; 3 (appendix A).
        crops_for_assign: the crops whose codes are predicted; the two of full resolution.
        hard_assignment_steps: for so many first steps codes are rounded to one prototype (section 3.1).
        hard_assignment_epochs: the same in epochs.
        queue_size: images in the queue, over all ranks; 0: none; 3840 for small batches (section 4.3); null: as many,
            or a quarter of the images.
        local_queue_size: images in the queue of one rank; follows from queue_size.
        queue_start_steps: step from which the queue is filled; 15 epochs in the paper's code.
        queue_start_epochs: the same in epochs.
        power_law: exponent of the shares of the prototypes; 0: equal shares.
        double_precision: compute the assignment in float64.
        normalize_prototypes: scale prototypes to length 1 after each update.
        momentum: m of the momentum encoder; null: codes are made by the model itself.
        embedding_dim: D, width of the embedding.
    """

    counters = ("filled",)
    whole_batch = BALANCED
    outputs = (2, None, "an embedding and scores, as PrototypesHead gives them")
    filled: int = 0

    def __init__(
        self,
        *,
        head: str = INFERRED,
        temperature: Annotated[float, Gt(0)] = 0.1,
        epsilon: Annotated[float, Gt(0)] = 0.05,
        num_iters: Annotated[int, Ge(0)] = 3,
        crops_for_assign: Annotated[list[Annotated[int, Ge(0)]], Len(1)] = [0, 1],  # noqa: B006  # never changed
        hard_assignment_steps: Annotated[int, Ge(0)] = INFERRED,
        hard_assignment_epochs: Optional[Annotated[float, Ge(0)]] = None,
        queue_size: Annotated[int, Ge(0), MayBeInferred()] = 0,
        local_queue_size: Annotated[int, Ge(0)] = INFERRED,
        queue_start_steps: Annotated[int, Ge(0)] = INFERRED,
        queue_start_epochs: Optional[Annotated[float, Ge(0)]] = None,
        power_law: Annotated[float, Ge(0)] = 0.0,
        double_precision: bool = False,
        normalize_prototypes: bool = True,
        momentum: Optional[Annotated[float, Ge(0), Le(1)]] = None,
        embedding_dim: Annotated[int, Gt(0)] = INFERRED,
    ) -> None:
        super().__init__()
        self.temperature, self.epsilon, self.num_iters, self.power_law = temperature, epsilon, num_iters, power_law
        self.crops_for_assign, self.double_precision = list(crops_for_assign), double_precision
        self.normalize_prototypes, self.embedding_dim, self.momentum = normalize_prototypes, embedding_dim, momentum
        self.encoder: Optional[MomentumTeacher] = None
        self.hard_assignment_steps, self.hard_assignment_epochs = hard_assignment_steps, hard_assignment_epochs
        self.queue_start_steps, self.queue_start_epochs = queue_start_steps, queue_start_epochs
        self.head, self.queue_size, self.local_queue_size = head, queue_size, local_queue_size
        self.queue = nn.Buffer(torch.zeros(len(crops_for_assign), self.local_queue_size, embedding_dim))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from inferred_width("embedding_dim", config.head, facts)
        yield from queue("queue_size", 3840, 4, facts)
        if config.queue_size is not None:
            rule = f"{config.queue_size} images in the queue / {facts.world_size} ranks"
            yield Inference("local_queue_size", config.queue_size // facts.world_size, rule)
        yield from steps_from_epochs("hard_assignment_steps", config.hard_assignment_epochs, facts)
        yield from steps_from_epochs("queue_start_steps", config.queue_start_epochs, facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from wrong_crops("crops_for_assign", config.crops_for_assign, facts)
        if facts.num_views < 2:
            yield Problem("", f"SwAV needs at least 2 crops of every image; the data makes {facts.num_views}")
        if config.queue_size % facts.global_batch_size:
            message = f"got {config.queue_size}, no multiple of the {facts.global_batch_size} images of a step"
            yield Problem("queue_size", message)
        kinds = facts.head_kinds.get(config.head, ())
        if config.queue_size and kinds and not any(hasattr(kind, PROTOTYPES[0]) for kind in kinds):
            message = f"the head {config.head} has no prototypes to score the queue with: use PrototypesHead"
            yield Problem("queue_size", message)

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        yield from more_than_images("queue_size", config.queue_size, "images in the queue", facts, images_each=4)
        most = max(facts.widths(config.head)[1:], default=0)
        yield from more_than_images("head", most, f"prototypes of {config.head}", facts)
        if config.momentum is not None:
            yield from slow_teacher("momentum", config.momentum, facts)

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        found = [precise(output) for output in model(batch.views, heads=[self.head]).all_of(self.head)]
        if len(found) < 2:
            raise ValueError(f"{type(self).__name__} needs an embedding and scores; the head gives {len(found)} output")
        if self.encoder is None:
            rows = [output.detach().chunk(len(batch.views)) for output in found]
            embedding, *targets = (torch.cat([parts[i] for i in self.crops_for_assign]) for parts in rows)
        else:
            views = [batch.views[i] for i in self.crops_for_assign]
            taught = self.encoder(views, heads=[self.head]).all_of(self.head)
            embedding, *targets = (precise(output) for output in taught)
        coder = model if self.encoder is None else self.encoder.product
        queued = self.queue_scores(coder) if self.uses_queue(moment) else []
        codes = self.codes_of(targets, moment, queued)
        loss = self.swapped(found[1:], codes, len(batch.views))
        carry = {"embeddings": torch.stack(embedding.chunk(len(self.crops_for_assign)))}
        ranges = [softmax_range(scores.shape[1]) * (1 / len(targets)) for scores in targets]
        signals = Signals(
            targets=tuple(map(torch.cat, codes)),
            teachers=() if self.encoder is None else (self.encoder.model,),
            memories=((self.queue[0], len(batch.index)),) if self.fills_queue(moment) else (),
        )
        return StepOutput(loss=loss, carry=carry, expected=sum(ranges[1:], ranges[0]), signals=signals)

    def setup(self, model: Model) -> None:
        if self.momentum is not None:
            self.encoder = MomentumTeacher(model, batch_statistics=False)

    def uses_queue(self, moment: Moment) -> bool:
        """Whether the queue is full, and it is time."""
        return 0 < self.local_queue_size <= self.filled and moment.step >= self.queue_start_steps

    def fills_queue(self, moment: Moment) -> bool:
        """Whether there is a queue, and it is time to put embeddings into it."""
        return self.local_queue_size > 0 and moment.step >= self.queue_start_steps

    def queue_scores(self, model: Model) -> list[Float[Tensor, "A L _"]]:
        """The scores of the queue by the model's prototypes."""
        weights = prototypes_of(model, self.head)
        with full_precision(self.queue):
            return [self.queue @ weight.detach().to(self.queue.dtype).T for weight in weights]

    def codes_of(
        self,
        targets: Sequence[Float[Tensor, "AB _"]],
        moment: Moment,
        queue_scores: Sequence[Float[Tensor, "A L _"]] = (),
    ) -> list[list[Float[Tensor, "B _"]]]:
        """q for every matrix of prototypes and every assign crop, whose scores are `targets`."""
        found = []
        for head, target in enumerate(targets):
            blocks = target.chunk(len(self.crops_for_assign))
            queued = queue_scores[head] if queue_scores else target.new_empty(len(blocks), 0, target.shape[1])
            pairs = zip(blocks, queued, strict=True)
            found.append([self.codes(torch.cat(pair), moment)[: len(pair[0])] for pair in pairs])
        return found

    def swapped(
        self, scores: Sequence[Float[Tensor, "VB _"]], codes: Sequence[Sequence[Float[Tensor, "B _"]]], num_crops: int
    ) -> Float[Tensor, ""]:
        """The equation of the class, for every matrix of prototypes."""
        losses = []
        for student, coded in zip(scores, codes, strict=True):
            log_p = F.log_softmax(student / self.temperature, dim=1).chunk(num_crops)
            for crop, q in zip(self.crops_for_assign, coded, strict=True):
                others = [-(q * log_p[p]).sum(dim=1).mean() for p in range(num_crops) if p != crop]
                losses.append(torch.stack(others).mean())
        return torch.stack(losses).mean()

    def codes(self, scores: Float[Tensor, "B K"], moment: Moment) -> Float[Tensor, "B K"]:
        """q of the equation."""
        q = assign(
            scores,
            epsilon=self.epsilon,
            num_iters=self.num_iters,
            power_law=self.power_law,
            double_precision=self.double_precision,
        )
        return hard(q) if moment.step < self.hard_assignment_steps else q

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        for carry in carries:
            if self.fills_queue(moment):
                new = carry["embeddings"].to(self.queue.dtype)
                self.queue.copy_(torch.cat([new, self.queue], dim=1)[:, : self.local_queue_size])
                self.filled = min(self.filled + new.shape[1], self.local_queue_size)
        if self.normalize_prototypes:
            for part in parts_with_prototypes(model, self.head):
                part.normalize_prototypes()
        if self.encoder is not None and self.momentum is not None:
            self.encoder.update(model, self.momentum)


SwAVLossConf = config_for(SwAVLoss)

"""MoCo: a query must pick its key, made by a momentum encoder, out of a queue of earlier keys."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.losses.outputs import full_precision, inferred_width, more_than_images, precise, softmax_range
from ssltyped.losses.state import CountingLoss
from ssltyped.losses.teacher import MomentumTeacher, inferred_momentum, slow_teacher
from ssltyped.meters.hits import hits
from ssltyped.meters.representation import spread
from ssltyped.types import Batch, Carry, Facts, Inference, Model, Moment, Problem, Signals, StepOutput, queue


class MoCoLoss(CountingLoss):
    """InfoNCE against a queue (He et al. 2020, arXiv 1911.05722, eq. 1 and algorithm 1; v2: Chen et al. 2020).

    View 0 gives the query q = z / |z| (B, D) of the model, view 1 the key k of its momentum encoder, normalized too:

        loss = mean over images of  -log( exp(q.k / T) / (exp(q.k / T) + sum_{j in queue} exp(q.k_j / T)) )

    After the update the keys of all ranks replace the oldest ones of the queue (K, D), in the order of the ranks, and
    the key encoder moves: theta_k <- m theta_k + (1 - m) theta_q, BatchNorm's running statistics too. The key encoder
    computes with the statistics of its own batch. `shuffle` (section 3.3) gives every rank keys of other images than
    its queries, so that BatchNorm without synchronisation cannot tell the positive; this is defined per rank: with
    BatchNorm in the model, W ranks do not equal one. It costs a gather of view 1 and is not needed with SyncBN.
    Memory grows as B K for the logits and K D for the queue, time as B K D. Logs `accuracy`, the percent of queries
    whose key is the most similar (`ssltyped.meters.hits`), and `z_std`: 1 for spread embeddings, 0 for collapsed ones.

    Raises:
        ValueError: a batch that has not exactly 2 views, or a head that has not exactly one output.

    Args:
        embedding_dim: D, width of the head.
        queue_size: K, keys in the queue; a multiple of the images per step in the world; null: a quarter of the images.
        momentum: m of the key encoder; 0.999 (section 4.1); null: what suits the steps of the run.
        temperature: T; 0.07 in the paper (section 3.4), 0.2 in v2.
        shuffle: permute the images among the ranks for the key encoder.
    """

    counters = ("pointer",)
    same_on_all_ranks = ("queue",)
    pointer: int = 0
    encoder: MomentumTeacher

    def __init__(
        self,
        *,
        head: str = INFERRED,
        embedding_dim: Annotated[int, Gt(0)] = INFERRED,
        queue_size: Annotated[int, Gt(0), MayBeInferred()] = 65536,
        momentum: Annotated[float, Ge(0), Le(1), MayBeInferred()] = 0.999,
        temperature: Annotated[float, Gt(0)] = 0.2,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        self.head, self.embedding_dim = head, embedding_dim
        self.queue_size, self.momentum, self.temperature, self.shuffle = queue_size, momentum, temperature, shuffle
        self.queue = nn.Buffer(F.normalize(torch.randn(queue_size, embedding_dim), dim=1))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from inferred_width("embedding_dim", config.head, facts)
        yield from queue("queue_size", 65536, 4, facts)
        yield from inferred_momentum(0.999, facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if facts.num_views != 2:
            yield Problem("", f"MoCo needs exactly 2 views of every image; the data makes {facts.num_views}")
        if config.queue_size % facts.global_batch_size:
            message = f"got {config.queue_size}, which is no multiple of the {facts.global_batch_size} images of a step"
            most = min(config.queue_size, facts.num_images or config.queue_size)
            nearest = max(1, most // facts.global_batch_size) * facts.global_batch_size
            yield Problem("queue_size", f"{message}: {nearest} is")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        yield from more_than_images("queue_size", config.queue_size, "keys in the queue", facts, images_each=4)
        yield from slow_teacher("momentum", config.momentum, facts)

    def setup(self, model: Model) -> None:
        self.encoder = MomentumTeacher(model, batch_statistics=True)

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        if len(batch.views) != 2:
            raise ValueError(f"MoCo needs exactly 2 views of every image; the batch has {len(batch.views)}")
        q = F.normalize(precise(model(batch.views[:1], heads=[self.head]).of(self.head)), dim=1)
        k = self._keys_of(batch.views[1], moment)
        written = len(k) * distributed.world_size()
        signals = Signals(taught=((k, q.detach()),), teachers=(self.encoder.model,), memories=((self.queue, written),))
        return dataclasses.replace(self.contrast(q, k), signals=signals)

    def contrast(self, q: Float[Tensor, "B D"], k: Float[Tensor, "B D"]) -> StepOutput:
        """The loss of normalized queries and keys against the queue as it is."""
        positive = (q * k).sum(dim=1, keepdim=True)
        with full_precision(q):
            logits = torch.cat([positive, q @ self.queue.T.to(q.dtype)], dim=1) / self.temperature
        target = torch.zeros(len(q), dtype=torch.int64, device=q.device)
        accuracy = 100 * hits(logits.detach(), target, 1).float().mean()
        logs = {"accuracy": accuracy, "z_std": spread(q)}
        expected = softmax_range(1 + self.queue_size, self.temperature)
        return StepOutput(loss=F.cross_entropy(logits, target), logs=logs, carry={"keys": k}, expected=expected)

    @torch.no_grad()
    def _keys_of(self, view: Float[Tensor, "B C H W"], moment: Moment) -> Float[Tensor, "B D"]:
        if not self.shuffle or distributed.world_size() == 1:
            return self._encoded(view)
        images = distributed.gather_no_grad(view)
        generator = torch.Generator().manual_seed(moment.step)  # the same on every rank
        order = torch.randperm(len(images), generator=generator).to(view.device, non_blocking=True)
        mine = order.chunk(distributed.world_size())[distributed.rank()]
        keys = distributed.gather_no_grad(self._encoded(images[mine]))
        return keys[order.argsort()].chunk(distributed.world_size())[distributed.rank()]

    def _encoded(self, view: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return F.normalize(precise(self.encoder([view], heads=[self.head]).of(self.head)), dim=1)

    @torch.no_grad()
    def enqueue(self, keys: Float[Tensor, "N D"]) -> None:
        """Replace the oldest keys by those of the world."""
        places = (torch.arange(len(keys), device=keys.device) + self.pointer) % self.queue_size
        self.queue[places] = keys.to(self.queue.dtype)
        self.pointer = (self.pointer + len(keys)) % self.queue_size

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        for carry in carries:
            self.enqueue(distributed.gather_no_grad(carry["keys"]))
        self.encoder.update(model, self.momentum)


MoCoLossConf = config_for(MoCoLoss)

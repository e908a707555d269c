"""DeepCluster v2: clusters of all images, made anew every epoch, are the classes of the next one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Len
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.losses.assignments import spherical_kmeans
from ssltyped.losses.outputs import full_precision, inferred_width, precise, softmax_range, wrong_crops
from ssltyped.losses.state import CountingLoss
from ssltyped.types import Batch, Carry, Facts, Inference, Model, Moment, Problem, Signals, StepOutput, fewer

UNASSIGNED = -100


class DeepClusterV2Loss(CountingLoss):
    """Cross entropy to the clusters of the last epoch's embeddings (Caron et al. 2020, arXiv 2006.09882, section 4.1).

    At the start of an epoch the embeddings that the memory holds are clustered by spherical k-means over all ranks,
    once for each number in `num_clusters`: centroids C (K, D) and an assignment a_n of every image. For the model's
    output z (V B, D) of V crops, with v = z / |z|,

        loss = mean over clusterings of  mean over crops and images  - log softmax_k(v . c_k / T) at k = a_n

    An image without an assignment counts nothing. The memory of a rank holds the newest embeddings, of one pass
    over its images, of the crops in `crops_for_memory`; clustering h uses crop h modulo their number. It is filled
    by a pass through the model before the first step, and a run resumes on as many ranks as it had. The first
    centroids are images drawn by (step, clustering), the same on any number of ranks. Memory grows as V B K for the
    scores, images a rank x D for the bank, and N for the assignments; time as V B K D, and the iterations of
    k-means x images x K x D an epoch.

    Raises:
        ValueError: a head that has not exactly one output; more clusters than images.

    Args:
        num_clusters: K of each clustering; three of 3000 in the paper; null: three of one for 5 images.
        embedding_dim: D, its width.
        num_images: N, images to train on.
        images_per_rank: rows of the memory: the images of one rank in one pass.
        temperature: T; 0.1.
        kmeans_iters: rounds of k-means; 10.
        crops_for_memory: crops whose embeddings are clustered.
    """

    counters = ("row", "is_filled")
    row: int = 0
    is_filled: int = 0

    def __init__(
        self,
        *,
        num_clusters: Annotated[list[Annotated[int, Gt(1)]], Len(1), MayBeInferred()] = [3000, 3000, 3000],  # noqa: B006
        head: str = INFERRED,
        embedding_dim: Annotated[int, Gt(0)] = INFERRED,
        num_images: Annotated[int, Gt(0)] = INFERRED,
        images_per_rank: Annotated[int, Gt(0)] = INFERRED,
        temperature: Annotated[float, Gt(0)] = 0.1,
        kmeans_iters: Annotated[int, Gt(0)] = 10,
        crops_for_memory: Annotated[list[Annotated[int, Ge(0)]], Len(1)] = [0],  # noqa: B006  # never changed
    ) -> None:
        super().__init__()
        self.head = head
        self.num_clusters, self.crops_for_memory = list(num_clusters), list(crops_for_memory)
        self.embedding_dim, self.num_images, self.images_per_rank = embedding_dim, num_images, images_per_rank
        self.temperature, self.kmeans_iters = temperature, kmeans_iters
        self.memory = nn.Buffer(torch.zeros(len(crops_for_memory), images_per_rank, embedding_dim))
        self.memory_index = nn.Buffer(torch.full((images_per_rank,), -1))
        self.assignments = nn.Buffer(torch.full((len(num_clusters), num_images), UNASSIGNED))
        for number, count in enumerate(num_clusters):
            self.register_buffer(f"centroids{number}", torch.zeros(count, embedding_dim))
        self.same_on_all_ranks = ("assignments", *(f"centroids{number}" for number in range(len(num_clusters))))

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from inferred_width("embedding_dim", config.head, facts)
        yield from fewer("num_clusters", 3000, 5, facts, several=3)
        if facts.num_images is not None and facts.steps_per_epoch:
            yield Inference("num_images", facts.num_images, "images to train on")
            rows = facts.steps_per_epoch * facts.batch_size * facts.accumulation
            rule = f"{facts.steps_per_epoch} steps an epoch x {facts.batch_size * facts.accumulation} images a rank"
            yield Inference("images_per_rank", rows, rule)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from wrong_crops("crops_for_memory", config.crops_for_memory, facts)
        images = (facts.steps_per_epoch or 0) * facts.global_batch_size
        if images and max(config.num_clusters) > images:
            yield Problem("num_clusters", f"got {max(config.num_clusters)} clusters of the {images} images of an epoch")

    @torch.no_grad()
    def on_train_start(self, model: Model, batches: Callable[[], Iterator[Batch]]) -> None:
        if not self.is_filled:
            for batch in batches():
                views = [batch.views[crop] for crop in self.crops_for_memory]
                self.remember(batch.index, F.normalize(precise(model(views, heads=[self.head]).of(self.head)), dim=1))
            self.is_filled = 1

    def on_epoch_start(self, model: Model, moment: Moment) -> None:
        for number in range(len(self.num_clusters)):
            self.cluster(number, self.first_centroids(number, moment.step))

    def first_centroids(self, number: int, step: int) -> Float[Tensor, "K D"]:
        """K embeddings of the memories of all ranks, drawn by (step, clustering)."""
        count = self.num_clusters[number]
        index = distributed.gather_no_grad(self.memory_index)
        generator = torch.Generator().manual_seed(step * len(self.num_clusters) + number)
        known = index.sort().values[(index < 0).sum() :].cpu()
        if len(known) < count:
            raise ValueError(f"{count} clusters of {len(known)} images: use fewer clusters, or more images")
        chosen = known[torch.randperm(len(known), generator=generator)[:count]].to(index.device)
        row_of = torch.full((self.num_images + 1,), -1, device=index.device)  # the last is for rows without an image
        row_of[self.memory_index] = torch.arange(self.images_per_rank, device=index.device)
        rows = row_of[chosen]
        mine = (rows >= 0)[:, None].to(self.memory.dtype)
        found = mine * self._bank(number)[rows.clamp(min=0)]
        return distributed.all_reduce_sum(found) / distributed.all_reduce_sum(mine)

    @torch.no_grad()
    def cluster(self, number: int, centroids: Float[Tensor, "K D"]) -> None:
        """Cluster the memories of all ranks from these first centroids, and assign their images."""
        found, nearest = spherical_kmeans(self._bank(number), centroids, num_iters=self.kmeans_iters)
        self.centroids(number).copy_(found)
        self.assignments[number] = UNASSIGNED
        index, cluster = distributed.gather_no_grad(self.memory_index), distributed.gather_no_grad(nearest)
        self.assignments[number, index[index >= 0]] = cluster[index >= 0]

    def centroids(self, number: int) -> Float[Tensor, "K D"]:
        """The centroids of a clustering."""
        return self.get_buffer(f"centroids{number}")

    def _bank(self, number: int) -> Float[Tensor, "R D"]:
        return self.memory[number % len(self.crops_for_memory)]

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        v = F.normalize(precise(model(batch.views, heads=[self.head]).of(self.head)), dim=1)
        rows = v.detach().chunk(len(batch.views))
        new = torch.cat([rows[crop] for crop in self.crops_for_memory])
        loss = self.classify(v, batch.index.repeat(len(batch.views)))
        ranges = [softmax_range(count, self.temperature) * (1 / len(self.num_clusters)) for count in self.num_clusters]
        expected = sum(ranges[1:], ranges[0])
        carry, signals = (
            {"index": batch.index, "embeddings": new},
            Signals(memories=((self.memory[0], len(batch.index)),)),
        )
        return StepOutput(loss=loss, carry=carry, expected=expected, signals=signals)

    def classify(self, v: Float[Tensor, "VB D"], index: Int64[Tensor, "VB"]) -> Float[Tensor, ""]:
        """The equation of the class, for the assignments and centroids as they are."""
        losses = []
        for number in range(len(self.num_clusters)):
            with full_precision(v):
                scores = v @ self.centroids(number).to(v.dtype).T / self.temperature
            target = self.assignments[number, index]
            total = F.cross_entropy(scores, target, ignore_index=UNASSIGNED, reduction="sum")
            count = distributed.all_reduce_mean((target != UNASSIGNED).sum().to(v.dtype))
            losses.append(total / count.clamp(min=1e-12))
        return torch.stack(losses).mean()

    def remember(self, index: Int64[Tensor, "B"], embeddings: Float[Tensor, "MB D"]) -> None:
        """Write the embeddings of a batch (rows by crop) over the oldest rows of the memory."""
        rows = (torch.arange(len(index), device=index.device) + self.row) % self.images_per_rank
        self.memory[:, rows] = torch.stack(embeddings.chunk(len(self.crops_for_memory))).to(self.memory.dtype)
        self.memory_index[rows] = index
        self.row = (self.row + len(index)) % self.images_per_rank

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        for carry in carries:
            self.remember(carry["index"], carry["embeddings"])


DeepClusterV2LossConf = config_for(DeepClusterV2Loss)

"""Clusters of the training images as the labels of another training: the first stage of ClusterFit."""

from collections.abc import Iterable
from typing import Annotated, Optional, Self

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import MayBeInferred, config_for
from ssltyped.losses.assignments import nearest, spherical_kmeans
from ssltyped.types import Callback, Facts, Inference, Problem, Subset, TrainState, fewer


class ClusterLabels(Callback):
    """At the end of a run, clusters the trunk's features of all training images and saves each image's cluster.

    Spherical k-means (`ssltyped.losses.assignments`) of x / |x|, from `num_clusters` images drawn by `seed`; image i of
    `data.train` gets entry i of `file_name` in the run's folder. A `RelabelledSource` with that file and
    `CrossEntropyLoss` are the second stage: a new network learns the clusters. ClusterFit: Yan et al. 2020, arXiv
    1912.03330, section 3.1. Logs `cluster_similarity`, the mean of x . c over the images and their clusters. Images
    are read as `data.val` says (transforms). Raises ValueError if an image cannot be read: it would have no label.

    Args:
        num_clusters: K; 16000 in the paper for ImageNet; null: as many, or one for 5 images.
        num_iters: rounds of k-means.
        file_name: of the labels, an .npy.
        seed: of the first centroids.
        num_images: how many images there are to train on.
    """

    every_rank = True

    def __init__(
        self,
        *,
        num_clusters: Annotated[int, Gt(1), MayBeInferred()],
        num_iters: Annotated[int, Gt(0)] = 20,
        file_name: str = "cluster_labels.npy",
        seed: Annotated[int, Ge(0)] = 0,
        num_images: Optional[Annotated[int, Gt(0)]] = None,
    ) -> None:
        self.num_clusters, self.num_iters, self.file_name, self.seed = num_clusters, num_iters, file_name, seed
        self.num_images = num_images

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from fewer("num_clusters", 16000, 5, facts)
        if facts.num_images is not None:
            yield Inference("num_images", facts.num_images, "images to train on: each gets a label")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.num_images is not None and config.num_clusters > facts.num_images:
            yield Problem("num_clusters", f"got {config.num_clusters}; there are only {facts.num_images} images")
        if not facts.evaluates:
            yield Problem("", "reads the images as data.val says, and there is none: give data.val (its transforms)")

    def on_epoch_end(self, state: TrainState) -> None:
        if state.step != state.steps:
            return
        features, _ = state.features(Subset.TRAIN)
        if len(features) != self.num_images:
            raise ValueError(f"{len(features)} of {self.num_images} images could be read: the others have no label")
        clusters, similarity = self.cluster(features[in_source_order(len(features))])
        state.log({"cluster_similarity": similarity})
        if distributed.is_main():
            path = state.folder / self.file_name
            partial = path.with_suffix(".part.npy")  # all or nothing
            np.save(partial, clusters.cpu().numpy())
            partial.replace(path)

    def cluster(self, features: Float[Tensor, "N D"]) -> tuple[Int64[Tensor, "N"], float]:
        """The cluster of each row, and the mean product of a row and its centroid; every rank has all rows.

        Memory: the rows twice, and a part of their products with the centroids at a time (`assignments.SCORES_BYTES`).
        """
        rows = F.normalize(features, dim=1)
        generator = torch.Generator().manual_seed(self.seed)
        first = rows[torch.randperm(len(rows), generator=generator)[: self.num_clusters].to(rows.device)]
        world, rank = distributed.world_size(), distributed.rank()
        centroids, _ = spherical_kmeans(rows[rank::world], first, num_iters=self.num_iters)
        clusters, similarity = nearest(rows, centroids)
        return clusters, float(similarity.mean())


def in_source_order(images: int) -> Int64[Tensor, "N"]:
    """The place of image 0, 1, ... among rows that are gathered from ranks which read every W-th image each."""
    world = distributed.world_size()
    return torch.cat([torch.arange(rank, images, world) for rank in range(world)]).argsort()


ClusterLabelsConf = config_for(ClusterLabels)

"""ClusterFit: Yan et al. 2020 (arXiv 1912.03330), the second stage, after recipes.small.clusterfit_clusters."""

from __future__ import annotations

from pathlib import Path

from recipes.small.base import DIGITS, Dials, crops, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.supervised import CrossEntropyLossConf


def clusterfit(dials: Dials = DIGITS) -> Experiment:
    """A new network learns the clusters of the first stage's features; kNN goes by the images' own labels."""
    return small(
        dials,
        loss=CrossEntropyLossConf(),
        heads={"classifier": MLPHeadConf(dims=INFERRED)},
        views=crops(1, size=dials.image_size),
        labels=Path("runs/clusterfit_clusters/cluster_labels.npy"),
    )


recipe = clusterfit()

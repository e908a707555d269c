"""ClusterFit: Yan et al. 2020 (arXiv 1912.03330), the first stage: a network, and the clusters of its features."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials
from recipes.small.rotnet import rotnet
from ssltyped import INFERRED, changed
from ssltyped.evals.cluster_labels import ClusterLabelsConf
from ssltyped.experiment import Experiment


def clusterfit_clusters(dials: Dials = DIGITS) -> Experiment:
    """As recipes.small.rotnet; at the end cluster_labels.npy, one cluster for 5 images."""
    recipe = rotnet(dials)
    return changed(recipe, lambda r: r.callbacks)([*recipe.callbacks, ClusterLabelsConf(num_clusters=INFERRED)])


recipe = clusterfit_clusters()

"""DeepCluster v2: Caron et al. 2020 (arXiv 2006.09882), section 4.1."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.heads.prototypes import PrototypesHeadConf
from ssltyped.losses.deepcluster import DeepClusterV2LossConf


def deepcluster_v2(dials: Dials = DIGITS) -> Experiment:
    """Three clusterings, made of both views."""
    return small(
        dials,
        loss=DeepClusterV2LossConf(num_clusters=INFERRED, crops_for_memory=[0, 1]),
        heads={"head": PrototypesHeadConf(dims=[128, 64], num_prototypes=[])},
        views=crops(2, size=dials.image_size),
    )


recipe = deepcluster_v2()

"""Facts of a small run, for parts that are asked what is wrong with them."""

from ssltyped.types import Facts

FACTS = Facts(
    world_size=1,
    ranks_per_node=1,
    batch_size=16,
    accumulation=1,
    num_views=2,
    crop_sizes=(32, 32),
    feature_dims={"trunk": 512},
)

"""What ranks tell each other; in one process each collective is the identity."""

from ssltyped.distributed.collectives import (
    all_reduce,
    all_reduce_max,
    all_reduce_mean,
    all_reduce_sum,
    barrier,
    broadcast,
    gather,
    gather_no_grad,
    gather_uneven,
    is_main,
    mean_over_ranks,
    rank,
    world_size,
)

__all__ = [
    "all_reduce",
    "all_reduce_max",
    "all_reduce_mean",
    "all_reduce_sum",
    "barrier",
    "broadcast",
    "gather",
    "gather_no_grad",
    "gather_uneven",
    "is_main",
    "mean_over_ranks",
    "rank",
    "world_size",
]

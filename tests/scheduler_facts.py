"""Facts of a run on some nodes of eight ranks."""

from typing import Optional

from ssltyped.types import Facts


def facts(
    *,
    nodes: int = 1,
    lr: Optional[float] = 4.8,
    base_lr_of_one_node: Optional[float] = 0.6,
    epochs: Optional[int] = 90,
) -> Facts:
    return Facts(
        world_size=8 * nodes,
        ranks_per_node=8,
        batch_size=32,
        accumulation=1,
        num_views=2,
        crop_sizes=(8,),
        feature_dims={},
        lr=lr,
        base_lr_of_one_node=base_lr_of_one_node,
        epochs=epochs,
    )

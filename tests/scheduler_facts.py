"""Facts of a run on some nodes of eight ranks."""

from typing import Optional

import pytest

from ssltyped.config import ConfigError
from ssltyped.config.resolve import resolve
from ssltyped.types import Facts, Scheduler


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


def inferred(asked: Scheduler, known: Facts) -> dict[str, object]:
    """What is filled in a schedule's config."""
    return {row.field: row.value for row in resolve(asked, lambda _: known).rows}


def lacking(asked: Scheduler, known: Facts) -> list[str]:
    """The fields that are wrong, or that cannot be inferred."""
    with pytest.raises(ConfigError) as caught:
        resolve(asked, lambda _: known)
    return [problem.path for problem in caught.value.problems]

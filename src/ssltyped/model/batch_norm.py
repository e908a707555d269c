"""Is there enough for BatchNorm to normalize by?"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssltyped import config
from ssltyped.types import Facts, Problem


def lone_images(parts: Sequence[object], group: int, facts: Facts) -> Iterator[Problem]:
    """Trunk and heads (their configs) whose BatchNorm sees one image at a time, in groups of so many ranks."""
    if facts.batch_size * group > 1:
        return
    with torch.device("meta"):
        built = [part for one in parts if isinstance(part := config.build(one), nn.Module)]
    if any(isinstance(module, _BatchNorm) for part in built for module in part.modules()):
        message = "1 image a rank: BatchNorm normalizes by the statistics of a single image"
        remedy = "use a larger batch, or share them among ranks (distributed.sync_bn_group)"
        yield Problem("data.train.batch_size", f"{message}: {remedy}")

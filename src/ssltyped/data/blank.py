"""A batch without numbers, on the meta device: what a step's shapes are tried with."""

import numpy as np
import torch

from ssltyped.data.pipeline import Data
from ssltyped.types import Batch, Facts, labels_of


def blank_batch(data: Data, facts: Facts, rows: int) -> Batch:
    """What one rank collates of so many images."""
    with torch.device("meta"):
        views = tuple(torch.empty(rows, len(data.mean), size, size) for size in facts.crop_sizes)
        masks = tuple(grid and torch.zeros(rows, *grid, dtype=torch.bool) for grid in facts.mask_grids)
        label = torch.zeros(rows, *_label_shape(data, facts), dtype=torch.int64) if facts.train_labelled else None
        index = torch.zeros(rows, dtype=torch.int64)
        batch = Batch(views=views, index=index, label=label, masks=masks)
        return data.train.collated(batch, np.random.default_rng(0))


def _label_shape(data: Data, facts: Facts) -> tuple[int, ...]:
    """Of an image's label: a class, or a row of them."""
    source = data.train.source
    if facts.num_classes is not None or source is None or not source.labelled:
        return ()
    return np.shape(next(labels_of(source, [0])))

"""`make quickstart`: does it learn? kNN accuracy of raw pixels, of the untrained trunk and of the trained one."""

from __future__ import annotations

import argparse
import time

# isort: off
from ssltyped.config import build  # before torch: ssltyped sets how its threads wait

import torch
from jaxtyping import Float, Int64
from torch import Tensor

# isort: on
from recipes.quickstart import recipe
from ssltyped.evals.knn import knn_accuracy
from ssltyped.launch import launch
from ssltyped.types import Source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="runs with the seeds 0, 1, ...")
    parser.add_argument("overrides", nargs="*", help="path=value, as of ssltyped.run")
    options = parser.parse_args()
    pixels = pixel_accuracy()
    for seed in range(options.seeds):
        started = time.monotonic()
        run = launch(recipe, [f"seed={seed}", *options.overrides], name="quickstart")
        print()
        print(f"kNN accuracy on 397 images that were not trained on (seed {seed}, {time.monotonic() - started:.0f} s)")
        print(f"  raw pixels       {pixels:5.1f} %")
        print(f"  untrained trunk  {run.first['knn_top1']:5.1f} %")
        print(f"  trained trunk    {run.metrics['knn_top1']:5.1f} %")
        print(f"the run is in {run.folder}")


def pixel_accuracy() -> float:
    """kNN among the images as they are."""
    data = build(recipe.data)
    assert data.val is not None
    bank, bank_labels = _pixels(data.train.images())
    queries, labels = _pixels(data.val.images())
    result = knn_accuracy(bank, bank_labels, queries, labels, k=20, temperature=0.07, num_classes=10)
    return result["top1"]


def _pixels(source: Source) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "N"]]:
    """All images of a source as rows, centred, and their labels."""
    images = torch.stack([source.read(index).flatten() for index in range(len(source))])
    return images.float() - 128, torch.tensor([source.label(index) for index in range(len(source))])


if __name__ == "__main__":
    main()

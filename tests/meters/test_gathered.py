"""Meters of all scores at once: any split over batches and ranks, ranks without images, the kinds of targets."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import Float, Int
from ranks import run_on_ranks
from torch import Tensor

from ssltyped import distributed
from ssltyped.meters.gathered import GatheredMeter


class Whole(GatheredMeter):
    def measure(self, scores: Float[Tensor, "N K"], targets: Int[Tensor, "N *K"]) -> dict[str, float]:
        places = torch.arange(1, len(scores) + 1)
        return {
            "images": float(len(scores)),
            "scores": float((scores.sum(dim=1) * places).sum()),
            "targets": float(torch.einsum("n...,n->", targets.long(), places)),
        }


def data(several: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(11, 7, generator=generator)
    if several:
        return scores, (torch.rand(11, 7, generator=generator) < 0.3).long()
    return scores, torch.randint(300, (11,), generator=generator)


def on_ranks(several: bool, cuts: list[int]) -> dict[str, float]:
    """Rank r sees the images between two cuts, in batches of 3; possibly none."""
    meter = Whole()
    scores, target = data(several)
    first, last = cuts[distributed.rank()], cuts[distributed.rank() + 1]
    for start in range(first, last, 3):
        meter.update(scores[start : min(start + 3, last)], target[start : min(start + 3, last)])
    return meter.compute()


@pytest.mark.parametrize("several", [False, True])
def test_any_split_over_batches_and_ranks_gives_the_same(several: bool) -> None:
    whole = Whole()
    whole.update(*data(several))
    assert whole.compute()["images"] == 11
    for cuts in ([0, 4, 11], [0, 11, 11], [0, 0, 11]):
        assert run_on_ranks(on_ranks, 2, several, cuts) == [whole.compute()] * 2


def test_nothing_before_any_image_and_after_reset() -> None:
    meter = Whole()
    assert meter.compute() == {"images": 0.0, "scores": 0.0, "targets": 0.0}
    meter.update(*data(True))
    assert meter.gathered()[1].dtype == torch.int8
    meter.reset()
    assert meter.compute()["images"] == 0
    meter.update(*data(False))
    assert meter.gathered()[1].dtype == torch.int64

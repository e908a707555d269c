"""What all meters of the k highest scores do: uneven ranks, ranks without images, refusals."""

import math

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor

from ssltyped import distributed
from ssltyped.meters.accuracy import TopKAccuracy
from ssltyped.meters.precision_recall import PrecisionAtK, RecallAtK
from ssltyped.meters.topk import TopKMeter, percent

KINDS = [TopKAccuracy, PrecisionAtK, RecallAtK]


def data(several: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(11, 7, generator=generator)
    if several:
        return scores, (torch.rand(11, 7, generator=generator) < 0.3).long()
    return scores, torch.randint(7, (11,), generator=generator)


def on_ranks(kind: type[TopKMeter], several: bool, cuts: list[int]) -> dict[str, float]:
    """Rank r sees the images between two cuts, in batches of 3; possibly none."""
    meter = kind(topk=[1, 3])
    scores, target = data(several)
    first, last = cuts[distributed.rank()], cuts[distributed.rank() + 1]
    for start in range(first, last, 3):
        meter.update(scores[start : min(start + 3, last)], target[start : min(start + 3, last)])
    return meter.compute()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_any_split_over_batches_and_ranks_gives_the_same(kind: type[TopKMeter], several: bool) -> None:
    whole = kind(topk=[1, 3])
    whole.update(*data(several))
    for cuts in ([0, 4, 11], [0, 11, 11]):
        assert run_on_ranks(on_ranks, 2, kind, several, cuts) == [whole.compute()] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_one_hot_targets_are_class_numbers(kind: type[TopKMeter]) -> None:
    scores, target = data(False)
    number, one_hot = kind(topk=[1, 2]), kind(topk=[1, 2])
    number.update(scores, target)
    one_hot.update(scores, torch.nn.functional.one_hot(target, 7))
    assert number.compute() == one_hot.compute()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_nan_also_after_reset(kind: type[TopKMeter]) -> None:
    meter = kind(topk=[1])
    meter.update(*data(False))
    assert not any(map(math.isnan, meter.compute().values()))
    meter.reset()
    assert all(map(math.isnan, meter.compute().values()))


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_all_classes_is_refused(kind: type[TopKMeter]) -> None:
    with pytest.raises(ValueError, match="topk has 8, and there are only 7 classes"):
        kind(topk=[1, 8]).update(*data(False))


def test_percent() -> None:
    assert percent(1, 4) == 25.0
    assert math.isnan(percent(0, 0))

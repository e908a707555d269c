"""MeanAveragePrecision: by the definition, ties, unknown and absent classes, ranks, and scikit-learn's curve."""

import math

import numpy as np
import pytest
import torch
from ranks import run_on_ranks
from sklearn.metrics import precision_recall_curve
from torch import Tensor

from ssltyped import distributed
from ssltyped.meters.average_precision import precision_recall
from ssltyped.meters.mean_ap import MeanAveragePrecision


def average_precision(scores: Tensor, target: Tensor) -> float:
    return precision_recall(target, scores, target >= 0).at_thresholds().average_precision


def data() -> tuple[Tensor, Tensor]:
    """Scores with ties; the last class has no image, and a few targets are unknown."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(17, 4, generator=generator).mul(3).round() / 3
    targets = torch.randint(-1, 2, (17, 4), generator=generator)
    targets[:, 3] = targets[:, 3].clamp(max=0)
    return scores, targets


def by_definition(scores: Tensor, target: Tensor) -> float:
    """The envelope of scikit-learn's precision-recall points, integrated."""
    known = target >= 0
    precision, recall, _ = precision_recall_curve(target[known].numpy(), scores[known].numpy())
    envelope = np.maximum.accumulate(precision[:-1])  # from recall 1 down to the first threshold
    return float(-(np.diff(recall) * envelope).sum())


def test_average_precision_of_each_class() -> None:
    scores, targets = data()
    for k in range(3):
        got = average_precision(scores[:, k], targets[:, k].to(torch.int8))
        assert float(got) == pytest.approx(by_definition(scores[:, k], targets[:, k]))
    assert math.isnan(average_precision(scores[:, 3], targets[:, 3].to(torch.int8)))


def test_by_hand() -> None:
    """Ranked yes, no, yes: precision 1 up to recall 1/2, then 2/3."""
    scores, target = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1, 0, 1], dtype=torch.int8)
    assert float(average_precision(scores, target)) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert float(average_precision(torch.zeros(3), target)) == pytest.approx(2 / 3)


def test_order_and_scale_do_not_matter() -> None:
    scores, targets = data()
    one, other = MeanAveragePrecision(), MeanAveragePrecision()
    one.update(scores, targets)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(1))
    other.update(scores[order].sigmoid(), targets[order].float())
    torch.testing.assert_close(one.per_class(), other.per_class(), equal_nan=True)
    assert one.compute()["mAP"] == pytest.approx(float(one.per_class()[:3].mean()))


def on_ranks(cuts: list[int]) -> dict[str, float]:
    meter = MeanAveragePrecision()
    scores, targets = data()
    first, last = cuts[distributed.rank()], cuts[distributed.rank() + 1]
    if last > first:
        meter.update(scores[first:last], targets[first:last])
    return meter.compute()


@pytest.mark.parametrize("cuts", [[0, 6, 17], [0, 17, 17]])
def test_ranks_of_any_size(cuts: list[int]) -> None:
    whole = MeanAveragePrecision()
    whole.update(*data())
    assert run_on_ranks(on_ranks, 2, cuts) == [whole.compute()] * 2


def test_class_numbers_are_one_hot_targets() -> None:
    scores, target = data()[0], torch.arange(17) % 4
    number, one_hot = MeanAveragePrecision(), MeanAveragePrecision()
    number.update(scores, target)
    one_hot.update(scores, torch.nn.functional.one_hot(target, 4))
    assert number.compute() == one_hot.compute()


def test_reset_forgets() -> None:
    meter = MeanAveragePrecision()
    assert math.isnan(meter.compute()["mAP"])
    meter.update(*data())
    meter.reset()
    meter.update(torch.eye(4), torch.eye(4).long())
    assert meter.compute() == {"mAP": 100.0}

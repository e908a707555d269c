"""Precision and recall: in plain loops, scikit-learn's points, weights as repeated images; their mean over classes."""

import math

import numpy as np
import pytest
import torch
from ranks import run_on_ranks
from sklearn.metrics import precision_recall_curve
from torch import Tensor

from ssltyped import distributed
from ssltyped.meters.average_precision import MeanAveragePrecision, precision_recall


def data(n: int = 25) -> tuple[Tensor, Tensor, Tensor]:
    """Targets of 0, 1 and 2; scores without ties; whole weights, some of them 0."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(0, 3, (n,), generator=generator)
    return targets, torch.randn(n, generator=generator), torch.randint(0, 4, (n,), generator=generator).double()


def by_hand(targets: list[int], scores: list[float], weights: list[float]) -> tuple[list[float], list[float], float]:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    total = sum(weights[i] for i in order if targets[i] > 0)
    precision, recall, found, seen = [], [], 0.0, 0.0
    for i in order:
        seen += weights[i]
        found += weights[i] if targets[i] > 0 else 0.0
        precision.append(found / seen)
        recall.append(found / total)
    area, before = 0.0, 0.0
    for place, value in enumerate(recall):
        area += (value - before) * max(precision[place:])
        before = value
    return precision, recall, area


def test_in_plain_loops() -> None:
    targets, scores, weights = data()
    weights = weights + 0.5
    curve = precision_recall(targets, scores, weights)
    precision, recall, area = by_hand(targets.tolist(), scores.tolist(), weights.tolist())
    assert curve.precision.tolist() == pytest.approx(precision)
    assert curve.recall.tolist() == pytest.approx(recall)
    assert curve.average_precision == pytest.approx(area)
    assert curve.scores.tolist() == sorted(scores.double().tolist(), reverse=True)


def test_points_are_those_of_scikit_learn() -> None:
    targets, scores, _ = data()
    precision, recall, _ = precision_recall_curve((targets > 0).numpy(), scores.numpy())
    curve = precision_recall(targets, scores)
    assert curve.precision.flip(0).tolist() == pytest.approx(precision[:-1].tolist())
    assert curve.recall.flip(0).tolist() == pytest.approx(recall[:-1].tolist())


def test_the_order_of_images_of_the_same_score_does_not_matter_at_thresholds() -> None:
    targets, scores, _ = data()
    scores = (scores * 2).round()
    first, last = precision_recall(targets, scores), precision_recall(targets.flip(0), scores.flip(0))
    assert first.average_precision != last.average_precision
    first, last = first.at_thresholds(), last.at_thresholds()
    assert first.average_precision == last.average_precision
    assert first.scores.tolist() == last.scores.tolist() == sorted(set(scores.tolist()), reverse=True)
    precision, recall, _ = precision_recall_curve((targets > 0).numpy(), scores.numpy())
    assert first.precision.flip(0).tolist() == pytest.approx(precision[:-1].tolist())
    assert first.recall.flip(0).tolist() == pytest.approx(recall[:-1].tolist())


def test_a_weight_counts_an_image_so_many_times() -> None:
    targets, scores, weights = data()
    times = weights.long()
    curve = precision_recall(targets, scores, weights)
    repeated = precision_recall(targets.repeat_interleave(times), scores.repeat_interleave(times))
    last = torch.diff(repeated.scores, append=torch.full((1,), -math.inf)) != 0
    torch.testing.assert_close(curve.precision, repeated.precision[last])
    torch.testing.assert_close(curve.recall, repeated.recall[last])
    assert len(curve.scores) == (weights > 0).sum() < len(scores)


def test_a_perfect_order_is_one_and_nothing_to_find_is_nan() -> None:
    scores = torch.arange(6.0)
    assert precision_recall(scores > 2, scores).average_precision == 1.0
    assert math.isnan(precision_recall(torch.zeros(6), scores).average_precision)
    assert math.isnan(precision_recall(torch.zeros(0), torch.zeros(0)).at_thresholds().average_precision)


def average_precision(scores: Tensor, target: Tensor) -> float:
    return precision_recall(target, scores, target >= 0).at_thresholds().average_precision


def data_of_classes() -> tuple[Tensor, Tensor]:
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
    scores, targets = data_of_classes()
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
    scores, targets = data_of_classes()
    one, other = MeanAveragePrecision(), MeanAveragePrecision()
    one.update(scores, targets)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(1))
    other.update(scores[order].sigmoid(), targets[order].float())
    torch.testing.assert_close(one.per_class(), other.per_class(), equal_nan=True)
    assert one.compute()["mAP"] == pytest.approx(float(one.per_class()[:3].mean()))


def on_ranks(cuts: list[int]) -> dict[str, float]:
    meter = MeanAveragePrecision()
    scores, targets = data_of_classes()
    first, last = cuts[distributed.rank()], cuts[distributed.rank() + 1]
    if last > first:
        meter.update(scores[first:last], targets[first:last])
    return meter.compute()


@pytest.mark.parametrize("cuts", [[0, 6, 17], [0, 17, 17]])
def test_ranks_of_any_size(cuts: list[int]) -> None:
    whole = MeanAveragePrecision()
    whole.update(*data_of_classes())
    assert run_on_ranks(on_ranks, 2, cuts) == [whole.compute()] * 2


def test_class_numbers_are_one_hot_targets() -> None:
    scores, target = data_of_classes()[0], torch.arange(17) % 4
    number, one_hot = MeanAveragePrecision(), MeanAveragePrecision()
    number.update(scores, target)
    one_hot.update(scores, torch.nn.functional.one_hot(target, 4))
    assert number.compute() == one_hot.compute()


def test_reset_forgets() -> None:
    meter = MeanAveragePrecision()
    assert math.isnan(meter.compute()["mAP"])
    meter.update(*data_of_classes())
    meter.reset()
    meter.update(torch.eye(4), torch.eye(4).long())
    assert meter.compute() == {"mAP": 100.0}


@pytest.mark.parametrize("value", [0.5, float("nan")])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0]])
def test_scores_that_say_nothing_give_the_share_of_the_class(value: float, order: list[int]) -> None:
    target = torch.tensor([1, 1, 1, 0])[order]
    meter = MeanAveragePrecision()
    meter.update(torch.full((4, 1), value), target[:, None])
    assert meter.compute() == {"mAP": 75.0}

"""Precision and recall: in plain loops, scikit-learn's points, weights as repeated images, and nothing to find."""

import math

import pytest
import torch
from sklearn.metrics import precision_recall_curve
from torch import Tensor

from ssltyped.meters.average_precision import precision_recall


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

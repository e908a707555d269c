"""Metrics of torchmetrics by name: their own values, in batches and on ranks, and what is refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from facts import FACTS
from ranks import run_on_ranks
from torch import Tensor
from torchmetrics import functional

from ssltyped import distributed
from ssltyped.meters.torch_metric import TorchMetric, TorchMetricConf


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 3, generator=generator), torch.randint(3, (40,), generator=generator)


def seen(meter: TorchMetric, *cuts: int) -> dict[str, float]:
    scores, target = data()
    for first, last in itertools.pairwise(cuts):
        meter.update(scores[first:last], target[first:last])
    return meter.compute()


def test_values_are_those_of_torchmetrics() -> None:
    scores, target = data()
    auroc = functional.classification.multiclass_auroc(scores, target, num_classes=3)
    assert seen(TorchMetric(name="MulticlassAUROC"), 0, 7, 40) == {"MulticlassAUROC": pytest.approx(float(auroc))}
    error = functional.classification.multiclass_calibration_error(scores, target, num_classes=3, n_bins=5)
    meter = TorchMetric(name="MulticlassCalibrationError", args={"n_bins": 5})
    assert seen(meter, 0, 40) == {"MulticlassCalibrationError": pytest.approx(float(error))}


def test_of_each_class_and_of_each_pair() -> None:
    scores, target = data()
    pairs = seen(TorchMetric(name="MulticlassConfusionMatrix"), 0, 40)
    by_hand = {
        f"MulticlassConfusionMatrix_{true}_{said}": float(((target == true) & (scores.argmax(1) == said)).sum())
        for true in range(3)
        for said in range(3)
    }
    assert pairs == by_hand
    classes = seen(TorchMetric(name="MulticlassRecall", args={"average": "none"}), 0, 40)
    assert list(classes) == [f"MulticlassRecall_{k}" for k in range(3)]


def test_several_classes_an_image() -> None:
    meter = TorchMetric(name="MultilabelAccuracy", args={"average": "micro"})
    meter.update(torch.tensor([[2.0, -2.0], [2.0, 2.0]]), torch.tensor([[1, 0], [0, 1]]))
    assert meter.compute() == {"MultilabelAccuracy": 0.75}


def on_ranks(cuts: list[int]) -> dict[str, float]:
    return seen(TorchMetric(name="MulticlassAUROC"), *cuts[distributed.rank() : distributed.rank() + 2])


@pytest.mark.parametrize("cuts", [[0, 13, 40], [0, 40, 40]])
def test_ranks_of_any_size(cuts: list[int]) -> None:
    assert run_on_ranks(on_ranks, 2, cuts) == [seen(TorchMetric(name="MulticlassAUROC"), 0, 40)] * 2


def test_nothing_before_any_image() -> None:
    meter = TorchMetric(name="MulticlassAUROC")
    assert meter.compute() == {}
    seen(meter, 0, 40)
    meter.reset()
    assert meter.compute() == {}


@pytest.mark.parametrize(
    ("name", "args", "path", "says"),
    [
        ("MulticlasAUROC", {}, "name", "has no 'MulticlasAUROC'; did you mean 'MulticlassAUROC'?"),
        ("AUROC", {}, "name", "has no 'AUROC'"),
        ("BinaryFairness", {}, "name", "has no 'BinaryFairness'"),
        ("MulticlassAUROC", {"averag": "macro"}, "args.averag", "takes no 'averag'; did you mean 'average'?"),
    ],
)
def test_what_is_refused(name: str, args: dict[str, bool | int | float | str | None], path: str, says: str) -> None:
    (problem,) = TorchMetric.problems(TorchMetricConf(name=name, args=args), FACTS)
    assert (problem.path, says in problem.message) == (path, True), problem
    with pytest.raises(ValueError, match=path):
        TorchMetric(name=name, args=args)


def test_curves_are_refused_when_they_are_computed() -> None:
    with pytest.raises(ValueError, match="MulticlassROC gives curves, not numbers"):
        seen(TorchMetric(name="MulticlassROC"), 0, 40)

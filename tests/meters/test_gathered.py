"""Meters of all scores at once, also torchmetrics's: splits over batches and ranks, kinds of targets, refusals."""

from __future__ import annotations

import itertools

import pytest
import torch
from facts import FACTS
from jaxtyping import Float, Int
from ranks import run_on_ranks
from torch import Tensor
from torchmetrics import functional

from ssltyped import distributed
from ssltyped.meters.gathered import GatheredMeter, TorchMetric, TorchMetricConf


class Whole(GatheredMeter):
    def measure(self, scores: Float[Tensor, "N K"], targets: Int[Tensor, "N *K"]) -> dict[str, float]:
        places = torch.arange(1, len(scores) + 1)
        return {
            "images": float(len(scores)),
            "scores": float((scores.sum(dim=1) * places).sum()),
            "targets": float(torch.einsum("n...,n->", targets.long(), places)),
        }


def data_of_gathered(several: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(11, 7, generator=generator)
    if several:
        return scores, (torch.rand(11, 7, generator=generator) < 0.3).long()
    return scores, torch.randint(300, (11,), generator=generator)


def on_ranks_of_gathered(several: bool, cuts: list[int]) -> dict[str, float]:
    """Rank r sees the images between two cuts, in batches of 3; possibly none."""
    meter = Whole()
    scores, target = data_of_gathered(several)
    first, last = cuts[distributed.rank()], cuts[distributed.rank() + 1]
    for start in range(first, last, 3):
        meter.update(scores[start : min(start + 3, last)], target[start : min(start + 3, last)])
    return meter.compute()


@pytest.mark.parametrize("several", [False, True])
def test_any_split_over_batches_and_ranks_gives_the_same(several: bool) -> None:
    whole = Whole()
    whole.update(*data_of_gathered(several))
    assert whole.compute()["images"] == 11
    for cuts in ([0, 4, 11], [0, 11, 11], [0, 0, 11]):
        assert run_on_ranks(on_ranks_of_gathered, 2, several, cuts) == [whole.compute()] * 2


def test_nothing_before_any_image_and_after_reset() -> None:
    meter = Whole()
    assert meter.compute() == {"images": 0.0, "scores": 0.0, "targets": 0.0}
    meter.update(*data_of_gathered(True))
    assert meter.gathered()[1].dtype == torch.int8
    meter.reset()
    assert meter.compute()["images"] == 0
    meter.update(*data_of_gathered(False))
    assert meter.gathered()[1].dtype == torch.int64


def data_of_torch_metric() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 3, generator=generator), torch.randint(3, (40,), generator=generator)


def seen(meter: TorchMetric, *cuts: int) -> dict[str, float]:
    scores, target = data_of_torch_metric()
    for first, last in itertools.pairwise(cuts):
        meter.update(scores[first:last], target[first:last])
    return meter.compute()


def test_values_are_those_of_torchmetrics() -> None:
    scores, target = data_of_torch_metric()
    auroc = functional.classification.multiclass_auroc(scores, target, num_classes=3)
    assert seen(TorchMetric(name="MulticlassAUROC"), 0, 7, 40) == {"MulticlassAUROC": pytest.approx(float(auroc))}
    error = functional.classification.multiclass_calibration_error(scores, target, num_classes=3, n_bins=5)
    meter = TorchMetric(name="MulticlassCalibrationError", args={"n_bins": 5})
    assert seen(meter, 0, 40) == {"MulticlassCalibrationError": pytest.approx(float(error))}


def test_of_each_class_and_of_each_pair() -> None:
    scores, target = data_of_torch_metric()
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


def on_ranks_of_torch_metric(cuts: list[int]) -> dict[str, float]:
    return seen(TorchMetric(name="MulticlassAUROC"), *cuts[distributed.rank() : distributed.rank() + 2])


@pytest.mark.parametrize("cuts", [[0, 13, 40], [0, 40, 40]])
def test_ranks_of_any_size(cuts: list[int]) -> None:
    assert run_on_ranks(on_ranks_of_torch_metric, 2, cuts) == [seen(TorchMetric(name="MulticlassAUROC"), 0, 40)] * 2


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

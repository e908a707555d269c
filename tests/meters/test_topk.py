"""The meters of the k highest scores: recorded values, by hand, uneven ranks, ranks without images, refusals."""

import math
from dataclasses import dataclass

import pytest
import torch
from golden_cases import load_cases, load_tensors, sequence
from ranks import run_on_ranks
from torch import Tensor

from ssltyped import distributed
from ssltyped.meters.topk import PrecisionAtK, RecallAtK, TopKAccuracy, TopKMeter, percent

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
def test_more_than_all_classes_is_refused_by_every_kind(kind: type[TopKMeter]) -> None:
    with pytest.raises(ValueError, match="topk has 8, and there are only 7 classes"):
        kind(topk=[1, 8]).update(*data(False))


def test_percent() -> None:
    assert percent(1, 4) == 25.0
    assert math.isnan(percent(0, 0))


@dataclass
class Case:
    id: str
    topk: list[int]
    outputs: int
    names: list[str]
    expected: dict[str, dict[str, float | list[float]]]


CASES = load_cases("meters", Case)


def updated(topk: list[int], folder: str, output: int) -> TopKAccuracy:
    """A meter of one of the outputs after all recorded batches below a folder."""
    golden = load_tensors("meters")
    meter = TopKAccuracy(topk=topk)
    batch = 0
    while f"{folder}/batches/{batch}/target" in golden:
        scores = sequence(golden, f"{folder}/batches/{batch}/outputs")[output]
        meter.update(scores, golden[f"{folder}/batches/{batch}/target"])
        batch += 1
    assert batch
    return meter


def expected(case: Case) -> list[dict[str, float]]:
    """What each output should give; outputs of the same name are in one list, in order."""
    names = case.names or [str(index) for index in range(case.outputs)]
    found = []
    for index, name in enumerate(names):
        values = {k: case.expected[f"top_{k}"][name] for k in case.topk}
        position = names[:index].count(name)
        found.append({f"top{k}": v[position] if isinstance(v, list) else v for k, v in values.items()})
    return found


@pytest.mark.parametrize("case", [case for case in CASES if case.id.startswith("eval")], ids=lambda case: case.id)
def test_values_are_those_recorded(case: Case) -> None:
    for output, want in enumerate(expected(case)):
        meter = updated(case.topk, f"{case.id}/in", output)
        assert meter.compute() == pytest.approx(want, rel=1e-5, abs=1e-4)
        assert meter.compute() == meter.compute()


def on_this_rank(topk: list[int], case_id: str) -> dict[str, float]:
    return updated(topk, f"{case_id}/in/rank{distributed.rank()}", 0).compute()


@pytest.mark.parametrize("case", [case for case in CASES if case.id.startswith("ws2")], ids=lambda case: case.id)
def test_values_on_two_ranks_are_those_recorded(case: Case) -> None:
    (want,) = expected(case)
    for got in run_on_ranks(on_this_rank, 2, case.topk, case.id):
        assert got == pytest.approx(want, rel=1e-5, abs=1e-4)


def uneven(scores: list[Tensor], targets: list[Tensor]) -> dict[str, float]:
    """Rank r sees batch r only, and the last rank none."""
    meter = TopKAccuracy(topk=[1, 3])
    if distributed.rank() < len(scores):
        meter.update(scores[distributed.rank()], targets[distributed.rank()])
    return meter.compute()


def test_uneven_batches_and_ranks_give_what_one_batch_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(10, 7, generator=generator)
    targets = torch.randint(7, (10,), generator=generator)
    whole, parts = TopKAccuracy(topk=[1, 3]), TopKAccuracy(topk=[1, 3])
    whole.update(scores, targets)
    for some, labels in zip(torch.split(scores, 4), torch.split(targets, 4), strict=True):
        parts.update(some, labels)
    assert parts.compute() == whole.compute()
    ranked = scores.argsort(dim=1, descending=True)
    by_hand = {f"top{k}": 10.0 * sum(int(t in r[:k]) for t, r in zip(targets, ranked, strict=True)) for k in (1, 3)}
    assert whole.compute() == pytest.approx(by_hand)
    several = run_on_ranks(uneven, 2, [scores], [targets])
    assert several == [whole.compute()] * 2


def test_reset_forgets() -> None:
    meter = TopKAccuracy(topk=[1])
    meter.update(torch.eye(3), torch.arange(3))
    assert meter.compute() == {"top1": 100.0}
    meter.reset()
    assert math.isnan(meter.compute()["top1"])
    meter.update(torch.eye(3), torch.tensor([1, 1, 1]))
    assert meter.compute() == pytest.approx({"top1": 100 / 3})


def test_more_than_all_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="topk has 5, and there are only 3 classes"):
        TopKAccuracy(topk=[1, 5]).update(torch.eye(3), torch.arange(3))


@pytest.mark.parametrize("several", [False, True])
def test_by_hand(several: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(20, 6, generator=generator)
    many = (torch.rand(20, 6, generator=generator) < 0.4).long()
    target = many if several else torch.randint(6, (20,), generator=generator)
    classes = [set(row.nonzero()[:, 0].tolist()) for row in many] if several else [{int(t)} for t in target]
    precision, recall = PrecisionAtK(topk=[1, 2, 5]), RecallAtK(topk=[1, 2, 5])
    for meter in (precision, recall):
        for start in (0, 7, 14):
            meter.update(scores[start : start + 7], target[start : start + 7])
    for k in (1, 2, 5):
        found = sum(
            len(set(row.argsort(descending=True)[:k].tolist()) & c) for row, c in zip(scores, classes, strict=True)
        )
        assert precision.compute()[f"precision_at_{k}"] == pytest.approx(100 * found / (20 * k))
        assert recall.compute()[f"recall_at_{k}"] == pytest.approx(100 * found / sum(map(len, classes)))


@pytest.mark.parametrize("target", [torch.arange(4), torch.eye(4).long()])
def test_constant_scores_are_no_hits(target: Tensor) -> None:
    meters = TopKAccuracy(topk=[1, 3, 4]), PrecisionAtK(topk=[1, 4]), RecallAtK(topk=[1, 4])
    for meter in meters:
        meter.update(torch.full((4, 4), 0.25), target)
    accuracy, precision, recall = (meter.compute() for meter in meters)
    assert accuracy == {"top1": 0.0, "top3": 0.0, "top4": 100.0}
    assert precision == {"precision_at_1": 0.0, "precision_at_4": 25.0}
    assert recall == {"recall_at_1": 0.0, "recall_at_4": 100.0}


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_a_known_class_are_left_out(kind: type[TopKMeter]) -> None:
    scores, target = data(False)
    some, known = kind(topk=[1, 3]), kind(topk=[1, 3])
    some.update(scores, torch.where(torch.arange(11) < 6, target, -1))
    known.update(scores[:6], target[:6])
    assert some.compute() == known.compute()

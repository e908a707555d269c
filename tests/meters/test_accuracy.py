"""TopKAccuracy: recorded values on one and two ranks, uneven batches, and what is refused."""

import math
from dataclasses import dataclass

import pytest
import torch
from golden_cases import load_cases, load_tensors, sequence
from ranks import run_on_ranks
from torch import Tensor

from ssltyped import distributed
from ssltyped.meters.accuracy import TopKAccuracy


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

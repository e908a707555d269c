"""The nearest rows in blocks and over ranks: what scikit-learn finds, with ties, in bounded memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ranks import run_on_ranks
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ssltyped import distributed
from ssltyped.evals import neighbours
from ssltyped.evals.knn import knn_accuracies, knn_accuracy
from ssltyped.evals.neighbours import nearest


def noise(rows: int, width: int, seed: int, classes: int = 7) -> tuple[Tensor, Tensor]:
    """Classes that overlap: a neighbour is often of another one."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    return torch.eye(width)[labels] + 0.6 * torch.randn(rows, width, generator=generator), labels


def tied(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features of few different values, so that most similarities are those of other rows too."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(7, (rows,), generator=generator)
    return torch.randint(-1, 2, (rows, 3), generator=generator).float(), labels


def shared_votes(bank: Tensor, labels: Tensor, query: Tensor, k: int, temperature: float) -> list[float]:
    """By the definition: all rows sorted; those at the last place share what is left of the k votes."""
    similarities = [float(query @ row) for row in bank]
    edge = sorted(similarities, reverse=True)[k - 1]
    inside = [i for i, s in enumerate(similarities) if s > edge]
    claim = [i for i, s in enumerate(similarities) if s == edge]
    votes = [0.0] * 7
    for i in inside:
        votes[int(labels[i])] += math.exp((similarities[i] - max(similarities)) / temperature)
    for i in claim:
        share = (k - len(inside)) / len(claim)
        votes[int(labels[i])] += share * math.exp((edge - max(similarities)) / temperature)
    return votes


@pytest.mark.parametrize("rows_at_once", [5, 64, 1000])
def test_ties_across_blocks_are_shared(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", rows_at_once)
    bank, labels = tied(60, 0)
    queries, _ = tied(9, 1)
    near = nearest(bank, labels, queries, 20, 7, normalize=False)
    for k in (1, 3, 20):
        for query, votes in zip(queries, near.votes(k, 0.9), strict=True):
            want = shared_votes(bank, labels, query, k, 0.9)
            assert [max(float(vote), 0.0) for vote in votes] == pytest.approx(want, abs=1e-6)


def test_accuracy_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cosine distances d of the nearest become votes of exp((1 - d) / T)."""
    monkeypatch.setattr(neighbours, "ROWS", 50)
    (bank, labels), (queries, asked) = noise(400, 9, 0), noise(150, 9, 1)
    found = knn_accuracies(bank, labels, queries, asked, ks=[1, 10, 33], temperature=0.2, num_classes=7)
    for k, accuracy in found.items():
        oracle = KNeighborsClassifier(  # type: ignore[no-untyped-call]
            k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.2)
        )
        oracle.fit(bank.double().numpy(), labels.numpy())
        five = oracle.predict_proba(queries.double().numpy())  # type: ignore[no-untyped-call]
        ranked = np.argsort(-five, axis=1)[:, :5]
        assert accuracy["top1"] == pytest.approx(100 * (ranked[:, 0] == asked.numpy()).mean())
        has_vote = np.take_along_axis(five, ranked, axis=1) > 0
        want = 100 * ((ranked == asked.numpy()[:, None]) & has_vote).any(axis=1).mean()
        assert accuracy["top5"] == pytest.approx(want)
    assert 30 < found[10]["top1"] < 95, "neither chance nor too easy to tell apart"


def share_of(rows: Tensor) -> Tensor:
    return rows[distributed.rank() :: distributed.world_size()]


def accuracies(bank: Tensor, labels: Tensor, queries: Tensor, asked: Tensor) -> dict[int, dict[str, float]]:
    return knn_accuracies(
        share_of(bank), share_of(labels), share_of(queries), share_of(asked), ks=[1, 20], temperature=0.1, num_classes=7
    )


@pytest.mark.parametrize("count", [1, 2, 31])
@pytest.mark.parametrize("kind", ["noise", "ties"])
def test_ranks_with_a_share_each_give_what_one_process_gives(kind: str, count: int) -> None:
    """Also where a rank has no query, and where rows of several ranks claim the same place."""
    (bank, labels), (queries, asked) = (
        (noise(50, 8, 0), noise(31, 8, 1)) if kind == "noise" else (tied(50, 0), tied(31, 1))
    )
    one = accuracies(bank, labels, queries[:count], asked[:count])
    assert one[20] == knn_accuracy(bank, labels, queries[:count], asked[:count], k=20, temperature=0.1, num_classes=7)
    for found in run_on_ranks(accuracies, 3, bank, labels, queries[:count], asked[:count]):
        assert found == one


def refused() -> str:
    bank, labels = noise(4, 8, distributed.rank())
    try:
        knn_accuracies(bank, labels, bank, labels, ks=[9], temperature=0.1, num_classes=7)
    except ValueError as error:
        return str(error)
    return ""


def test_k_is_compared_with_the_images_of_all_ranks() -> None:
    assert run_on_ranks(refused, 2) == ["k is 9, and the bank has only 8 images"] * 2


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The numbers in the largest tensor that an operation has made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, Tensor) and not one._is_view():
                self.numbers = max(self.numbers, one.numel())
        return out


@pytest.mark.parametrize("factor", [1, 4])
def test_memory_does_not_grow_with_the_images(factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor is a block of similarities; at once they would be 16 to 256 times as many numbers."""
    monkeypatch.setattr(neighbours, "QUERIES", 32)
    monkeypatch.setattr(neighbours, "ROWS", 64)
    (bank, labels), (queries, asked) = noise(256 * factor, 16, 0), noise(128 * factor, 16, 1)
    with Largest() as largest:  # type: ignore[no-untyped-call]
        found = knn_accuracies(bank, labels, queries, asked, ks=[20], temperature=0.1, num_classes=7)
    assert largest.numbers <= 32 * 64
    monkeypatch.undo()
    assert found == knn_accuracies(bank, labels, queries, asked, ks=[20], temperature=0.1, num_classes=7)


def test_a_row_that_is_nan_is_nobodys_neighbour() -> None:
    bank, labels = noise(6, 8, 0)
    bank[2] = math.nan
    near = nearest(bank, labels, F.normalize(bank[:1]), 6, 7, normalize=True)
    assert near.values[0, -1] == -math.inf
    assert int(near.votes(6, 0.1).isfinite().sum()) == len(set(labels[[0, 1, 3, 4, 5]].tolist()))

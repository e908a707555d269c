"""kNN: recorded accuracies, votes in plain loops, chunks, large similarities, and what is refused."""

import math
from dataclasses import dataclass

import pytest
import torch
from golden_cases import load_cases, load_tensors
from torch import Tensor
from torch.nn import functional as F

from ssltyped.evals.knn import knn_accuracy, knn_predict


@dataclass
class Case:
    id: str
    k: int
    temperature: float
    l2_norm: bool
    num_classes: int


CASES = load_cases("knn", Case)


def recorded(case: Case) -> dict[str, Tensor]:
    golden = load_tensors("knn")
    return {key.removeprefix(f"{case.id}/"): golden[key] for key in golden if key.startswith(f"{case.id}/")}


def overflowed(case: Case) -> Tensor:
    """Which queries had a vote of inf where this was recorded: exp(s / T) of float32, without normalization."""
    arrays = recorded(case)
    nearest = (arrays["in/test_features"] @ arrays["in/train_features"].T).max(dim=1).values
    return (nearest / case.temperature).exp().isinf() & (not case.l2_norm)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_predictions_are_those_recorded(case: Case) -> None:
    """Of classes with a vote; the order of the others is arbitrary. An inf gave nan votes, which ranked first."""
    arrays, sound = recorded(case), ~overflowed(case)
    bank, labels, queries = (arrays[f"in/{name}"] for name in ("train_features", "train_targets", "test_features"))
    options = {"k": case.k, "num_classes": case.num_classes}
    ranked = knn_predict(bank, labels, queries, temperature=case.temperature, normalize=case.l2_norm, **options)
    if case.l2_norm:
        bank, queries = F.normalize(bank), F.normalize(queries)
    neighbours = labels[(queries @ bank.T).topk(case.k).indices]
    voted = (arrays["out/predictions_top5"][:, :, None] == neighbours[:, None, :]).any(dim=2)
    assert sound.sum() >= 19
    assert torch.equal(ranked[sound][voted[sound]], arrays["out/predictions_top5"][sound][voted[sound]])


@pytest.mark.parametrize("case", [case for case in CASES if not overflowed(case).any()], ids=lambda case: case.id)
def test_accuracies_are_those_recorded(case: Case) -> None:
    arrays = recorded(case)
    result = knn_accuracy(
        arrays["in/train_features"],
        arrays["in/train_targets"],
        arrays["in/test_features"],
        arrays["in/test_targets"],
        k=case.k,
        temperature=case.temperature,
        num_classes=case.num_classes,
        normalize=case.l2_norm,
    )
    assert result == {top: pytest.approx(arrays[f"out/{top}"].item(), abs=1e-6) for top in ("top1", "top5")}


@pytest.mark.parametrize("case", [case for case in CASES if overflowed(case).any()], ids=lambda case: case.id)
def test_recorded_accuracies_that_we_do_not_give_come_from_nan_votes(case: Case) -> None:
    """inf x 0 in a one-hot sum is nan: that, and nothing else, gives all that was recorded."""
    arrays = recorded(case)
    nearest = (arrays["in/test_features"] @ arrays["in/train_features"].T).topk(case.k)
    one_hot = F.one_hot(arrays["in/train_targets"][nearest.indices], case.num_classes)
    votes = (one_hot * (nearest.values / case.temperature).exp()[..., None]).sum(dim=1)
    assert votes.isnan().any()
    assert torch.equal(votes.sort(dim=1, descending=True).indices[:, :5], arrays["out/predictions_top5"])


def data(n: int = 40, m: int = 11, classes: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    return bank, labels, torch.randn(m, 5, generator=generator, dtype=torch.float64)


def by_hand(bank: Tensor, labels: Tensor, query: Tensor, k: int, temperature: float) -> list[tuple[float, int]]:
    """Votes of one query, most first."""
    cosines = [float(query @ x / query.norm() / x.norm()) for x in bank]
    votes: dict[int, float] = {}
    for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]:
        votes[int(labels[i])] = votes.get(int(labels[i]), 0.0) + math.exp(cosines[i] / temperature)
    return sorted(((vote, label) for label, vote in votes.items()), reverse=True)


@pytest.mark.parametrize("k, temperature", [(1, 0.07), (7, 0.07), (40, 0.5)])
def test_votes_in_plain_loops(k: int, temperature: float) -> None:
    bank, labels, queries = data()
    ranked = knn_predict(bank, labels, queries, k=k, temperature=temperature, num_classes=6)
    assert ranked.shape == (11, 5)
    for query, classes in zip(queries, ranked.tolist(), strict=True):
        want = [label for _, label in by_hand(bank, labels, query, k, temperature)][:5]
        assert classes[: len(want)] == want


@pytest.mark.parametrize("chunk", [1, 4, 11, 100])
def test_chunks_change_nothing(chunk: int) -> None:
    bank, labels, queries = data()
    want = knn_predict(bank, labels, queries, k=5, temperature=0.1, num_classes=6)
    assert torch.equal(knn_predict(bank, labels, queries, k=5, temperature=0.1, num_classes=6, chunk=chunk), want)


def test_large_similarities_do_not_overflow() -> None:
    """Unnormalized features of norm 100 would give exp(10^5)."""
    bank, labels, queries = data()
    bank, queries = 100 * bank.float(), 100 * queries.float()
    got = knn_predict(bank, labels, queries, k=9, temperature=0.1, num_classes=6, normalize=False)
    nearest = labels[(queries @ bank.T).argmax(dim=1)]
    assert torch.equal(got[:, 0], nearest)


def test_fewer_than_five_classes() -> None:
    bank, labels, queries = data(classes=3)
    result = knn_accuracy(
        bank, labels, queries, torch.zeros(11, dtype=torch.int64), k=5, temperature=0.1, num_classes=3
    )
    assert result["top5"] == 100.0
    assert result["top1"] < 100.0


def test_more_neighbours_than_images_is_refused() -> None:
    bank, labels, queries = data()
    with pytest.raises(ValueError, match="k is 41, and the bank has only 40 images"):
        knn_predict(bank, labels, queries, k=41, temperature=0.1, num_classes=6)


def test_label_outside_the_classes_is_refused() -> None:
    bank, labels, queries = data()
    with pytest.raises(ValueError, match=r"labels of the bank are in \[0, 5\], and num_classes is 5"):
        knn_predict(bank, labels, queries, k=4, temperature=0.1, num_classes=5)

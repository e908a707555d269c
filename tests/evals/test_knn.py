"""kNN: recorded accuracies, votes in plain loops, chunks, large similarities, and what is refused."""

import math
from dataclasses import dataclass

import pytest
import torch
from golden_cases import load_cases, load_tensors
from torch import Tensor
from torch.nn import functional as F

from ssltyped.evals import neighbours
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


@pytest.mark.parametrize(("queries_at_once", "rows_at_once"), [(1, 1), (4, 7), (11, 40), (100, 100), (3, 100)])
def test_blocks_change_nothing(queries_at_once: int, rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, labels, queries = data()
    want = knn_predict(bank, labels, queries, k=5, temperature=0.1, num_classes=6)
    monkeypatch.setattr(neighbours, "QUERIES", queries_at_once)
    monkeypatch.setattr(neighbours, "ROWS", rows_at_once)
    assert torch.equal(knn_predict(bank, labels, queries, k=5, temperature=0.1, num_classes=6), want)


def test_large_similarities_do_not_overflow() -> None:
    """Unnormalized features of norm 100 would give exp(10^5)."""
    bank, labels, queries = data()
    bank, queries = 100 * bank.float(), 100 * queries.float()
    got = knn_predict(bank, labels, queries, k=9, temperature=0.1, num_classes=6, normalize=False)
    nearest = labels[(queries @ bank.T).argmax(dim=1)]
    assert torch.equal(got[:, 0], nearest)


def test_of_fewer_than_five_classes_those_with_a_vote_count() -> None:
    bank, labels, queries = data(classes=3)
    asked = torch.zeros(11, dtype=torch.int64)
    result = knn_accuracy(bank, labels, queries, asked, k=5, temperature=0.1, num_classes=3)
    votes = [{c: v for v, c in by_hand(bank, labels, query, 5, 0.1)} for query in queries]
    assert result["top5"] == pytest.approx(100 * sum(0 in voted for voted in votes) / 11)
    assert result["top1"] == pytest.approx(100 * sum(max(voted, key=lambda c: voted[c]) == 0 for voted in votes) / 11)


def test_a_class_without_a_vote_is_not_predicted() -> None:
    """Every query's nearest image is of the class after its own."""
    labels, bank = torch.arange(8), torch.eye(8)
    queries = bank.roll(-1, dims=0)
    found = knn_accuracy(bank, labels, queries, labels, k=1, temperature=0.07, num_classes=8)
    assert found == {"top1": 0.0, "top5": 0.0}
    ranked = knn_predict(bank, labels, queries, k=1, temperature=0.07, num_classes=8)
    assert torch.equal(ranked, torch.stack([labels.roll(-1), *[torch.full((8,), -1)] * 4], dim=1))


def test_votes_too_small_for_a_float_are_votes() -> None:
    """Similarities 100 and 1 at temperature 0.01: the second vote is exp(-9900) of the first."""
    bank, queries = torch.tensor([[100.0], [1.0], [-5.0]]), torch.ones(1, 1)
    options = {"k": 2, "temperature": 0.01, "num_classes": 3, "normalize": False}
    assert knn_predict(bank, torch.arange(3), queries, **options).tolist() == [[0, 1, -1]]  # type: ignore[arg-type]
    found = knn_accuracy(bank, torch.arange(3), queries, torch.tensor([1]), **options)  # type: ignore[arg-type]
    assert found == {"top1": 0.0, "top5": 100.0}


def test_classes_with_equal_votes_are_no_hit() -> None:
    bank = torch.eye(4)
    queries = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    for label in (0, 1, 2):
        found = knn_accuracy(bank, torch.arange(4), queries, torch.tensor([label]), k=2, temperature=1.0, num_classes=4)
        assert found == {"top1": 0.0, "top5": 100.0 if label < 2 else 0.0}


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]])
def test_collapsed_features_predict_the_largest_class_whatever_the_order_of_the_bank(order: list[int]) -> None:
    labels = torch.tensor([2, 1, 1, 0, 2, 2])[order]
    bank, queries, asked = torch.ones(6, 4), torch.ones(3, 4), torch.tensor([0, 1, 2])
    found = knn_accuracy(bank, labels, queries, asked, k=2, temperature=0.07, num_classes=4)
    assert found == {"top1": pytest.approx(100 / 3), "top5": 100.0}
    assert knn_predict(bank, labels, queries, k=2, temperature=0.07, num_classes=4)[0].tolist() == [2, 1, 0, -1]


def test_images_that_are_equally_far_share_the_places_that_are_left() -> None:
    """The nearest is of class 0; four at the same distance share one place: three of class 1, one of class 2."""
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, -1.0]])
    labels, queries = torch.tensor([0, 2, 1, 1, 1]), torch.tensor([[1.0, 0.0]])
    assert knn_predict(bank, labels, queries, k=2, temperature=10.0, num_classes=3).tolist() == [[0, 1, 2]]


def test_features_that_are_nan_are_no_hits_and_nobodys_neighbours() -> None:
    bank, labels, queries = data()
    wanted = knn_accuracy(bank, labels, queries, labels[:11], k=5, temperature=0.1, num_classes=6)
    more, more_labels = torch.cat([bank, torch.full((1, 5), math.nan)]), torch.cat([labels, labels[:1]])
    assert knn_accuracy(more, more_labels, queries, labels[:11], k=5, temperature=0.1, num_classes=6) == wanted
    lost = torch.full_like(queries, math.nan)
    found = knn_accuracy(bank, labels, lost, labels[:11], k=5, temperature=0.1, num_classes=6)
    assert found == {"top1": 0.0, "top5": 0.0}
    assert (knn_predict(bank, labels, lost, k=5, temperature=0.1, num_classes=6) == -1).all()


def test_nothing_is_nan() -> None:
    bank, labels, queries = data()
    found = knn_accuracy(bank, labels, queries[:0], labels[:0], k=5, temperature=0.1, num_classes=6)
    assert all(map(math.isnan, found.values()))


def test_more_neighbours_than_images_is_refused() -> None:
    bank, labels, queries = data()
    with pytest.raises(ValueError, match="k is 41, and the bank has only 40 images"):
        knn_predict(bank, labels, queries, k=41, temperature=0.1, num_classes=6)


def test_label_outside_the_classes_is_refused() -> None:
    bank, labels, queries = data()
    with pytest.raises(ValueError, match=r"labels of the bank are in \[0, 5\], and num_classes is 5"):
        knn_predict(bank, labels, queries, k=4, temperature=0.1, num_classes=5)

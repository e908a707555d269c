"""Retrieval of the same class against the plain parts of `evals.retrieval`, in blocks and over ranks."""

from __future__ import annotations

import math

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor
from torch.nn import functional as F

from ssltyped import distributed
from ssltyped.evals import same_class as module
from ssltyped.evals.retrieval import GroundTruth, ap_of_ranks, ranking, score_rankings
from ssltyped.evals.same_class import ClassRetrieval, average_precisions, class_retrieval


def sets(ties: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last query's class is not in the database."""
    generator = torch.Generator().manual_seed(0)
    labels, asked = torch.randint(5, (40,), generator=generator), torch.randint(5, (13,), generator=generator)
    asked[-1] = 9
    database, queries = torch.eye(8)[labels], torch.eye(8)[asked.clamp(max=7)]
    if ties:
        return database[:, :3] + 1, labels, queries[:, :3] + 1, asked
    noisy = [one + 0.8 * torch.randn(one.shape, generator=generator) for one in (database, queries)]
    return noisy[0], labels, noisy[1], asked


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("at_once", [1, 100, 10_000])
def test_scores_are_those_of_whole_rankings(
    ties: bool, normalize: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SIMILARITIES", at_once)
    monkeypatch.setattr(module, "ROWS", 7)
    database, labels, queries, asked = sets(ties)
    found = class_retrieval(database, labels, queries, asked, cutoffs=[1, 3, 40], normalize=normalize)
    truth = [GroundTruth((labels == label).nonzero()[:, 0].tolist()) for label in asked]
    if normalize:
        database, queries = F.normalize(database), F.normalize(queries)
    order = ranking(database, queries, truth)
    want = score_rankings(order, truth)
    assert found.mean_ap == pytest.approx(100 * want.mean_ap)
    assert found.deviation == pytest.approx(100 * float(want.aps[:-1].std()))
    assert found.num_queries == 12
    for k, recall in found.recalls.items():
        hit = [bool((labels[order[:k, q]] == asked[q]).any()) for q in range(12)]
        assert recall == pytest.approx(100 * sum(hit) / 12)
    assert found.recalls[40] == 100


def test_average_precision_by_hand() -> None:
    rankings = torch.tensor([[1, 0, 0, 1, 1], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    want = [ap_of_ranks([0, 3, 4], 3), ap_of_ranks([2], 1), 1.0]
    assert average_precisions(rankings).tolist() == pytest.approx(want)


def test_features_that_say_nothing_find_nothing_by_their_order() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    found = class_retrieval(torch.ones(6, 2), labels, torch.ones(2, 2), torch.tensor([0, 1]), cutoffs=[1, 3, 4])
    assert found.recalls == {1: 0.0, 3: 0.0, 4: 100.0}


def on_rank() -> ClassRetrieval:
    database, labels, queries, asked = sets(ties=False)
    mine = slice(distributed.rank(), None, distributed.world_size())
    return class_retrieval(database, labels, queries[mine], asked[mine])


def test_ranks_share_the_queries() -> None:
    one = on_rank()
    for found in run_on_ranks(on_rank, 3):
        assert (found.mean_ap, found.deviation) == pytest.approx((one.mean_ap, one.deviation))
        assert found.recalls == pytest.approx(one.recalls)
        assert found.num_queries == one.num_queries


def test_nothing_is_nan() -> None:
    database, labels, queries, asked = sets(ties=False)
    found = class_retrieval(database, labels, queries[-1:], asked[-1:])
    assert math.isnan(found.mean_ap)
    assert found.num_queries == 0

"""DeepCluster v2 beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from losses.proofs import HEAD, LinearModel, at, waves
from losses.told import inferred, problems

from ssltyped.losses.deepcluster import UNASSIGNED, DeepClusterV2Loss, DeepClusterV2LossConf
from ssltyped.types import Batch


def loss_of(rows: int = 8, images: int = 12) -> DeepClusterV2Loss:
    return DeepClusterV2Loss(head=HEAD, num_clusters=[3, 2], embedding_dim=5, num_images=images, images_per_rank=rows)


def batch(index: torch.Tensor) -> Batch:
    return Batch(views=tuple(waves(len(index), 5, 1, 1).float() + v for v in range(2)), index=index)


def test_the_memory_is_filled_by_a_pass_once() -> None:
    loss, model = loss_of(), LinearModel().float()
    order = torch.tensor([7, 1, 10, 4, 3, 0, 11, 5])
    passes = [batch(order[:4]), batch(order[4:])]
    loss.on_train_start(model, lambda: iter(passes))
    assert loss.memory_index.tolist() == order.tolist()
    want = F.normalize(model([passes[1].views[0]]).of(HEAD), dim=1)
    torch.testing.assert_close(loss.memory[0, 4:], want)
    loss.on_train_start(model, lambda: iter(pytest.fail("filled already") for _ in range(1)))


def test_images_that_were_not_seen_have_no_cluster_and_count_nothing() -> None:
    loss, model = loss_of(), LinearModel().float()
    loss.on_train_start(model, lambda: iter([batch(torch.arange(8))]))
    loss.on_epoch_start(model, at(0))
    assert (loss.assignments[:, 8:] == UNASSIGNED).all()
    assert (loss.assignments[:, :8] != UNASSIGNED).all()
    known, new = torch.arange(4), torch.tensor([8, 9, 10, 11])
    v = F.normalize(waves(8, 5).float(), dim=1)
    both = loss.classify(v, torch.cat([known, new]))
    torch.testing.assert_close(both, loss.classify(v[:4], known))
    assert loss.classify(v[4:], new) == 0


def test_an_epoch_starts_from_images_that_its_number_draws() -> None:
    loss, model = loss_of(), LinearModel().float()
    loss.on_train_start(model, lambda: iter([batch(torch.arange(8))]))
    first = loss.first_centroids(0, 0)
    assert torch.equal(first, loss.first_centroids(0, 0))
    assert all((loss.memory[0] == row).all(dim=1).any() for row in first)
    assert not torch.equal(first, loss.first_centroids(0, 7))


def test_the_second_clustering_reads_the_second_crop() -> None:
    loss = DeepClusterV2Loss(
        head=HEAD, num_clusters=[3, 2], embedding_dim=5, num_images=8, images_per_rank=8, crops_for_memory=[0, 1]
    )
    model = LinearModel().float()
    loss.on_train_start(model, lambda: iter([batch(torch.arange(8))]))
    assert not torch.allclose(loss.memory[0], loss.memory[1])
    rows = loss.first_centroids(1, 0)
    assert all((loss.memory[1] == row).all(dim=1).any() for row in rows)


def test_what_it_infers_and_refuses() -> None:
    asked = DeepClusterV2LossConf(crops_for_memory=[0, 3])
    known = inferred(asked, world_size=2, ranks_per_node=2, num_images=100, outputs=(128,))
    assert known == {"embedding_dim": 128, "num_images": 100, "images_per_rank": 48}, "6 steps of 8 images a rank"
    wrong = problems(asked)
    assert "num_clusters: got 3000 clusters of the 64 images of an epoch" in wrong
    assert "crops_for_memory: got [0, 3], but the data makes the crops 0 to 1" in wrong
    with pytest.raises(ValueError, match="3 clusters of 0 images"):
        loss_of().on_epoch_start(LinearModel(), at(0))

"""MoCo beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from losses.direct import MatrixModel, batch_of
from losses.proofs import HEAD, NOTHING, LinearModel, at, waves
from losses.told import inferred, problems
from ranks import run_on_ranks
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.losses.moco import MoCoLoss, MoCoLossConf
from ssltyped.types import Outputs


def test_the_queue_turns_round() -> None:
    loss = MoCoLoss(head=HEAD, embedding_dim=4, queue_size=6)
    first, second = F.normalize(waves(4, 4).float(), dim=1), F.normalize(waves(5, 4).float()[1:], dim=1)
    loss.enqueue(first)
    loss.enqueue(second)
    assert loss.pointer == 2
    torch.testing.assert_close(loss.queue, torch.cat([second[2:], first[2:], second[:2]]))


def test_a_step_that_is_not_taken_moves_nothing() -> None:
    loss = MoCoLoss(head=HEAD, embedding_dim=8, queue_size=8)
    model = MatrixModel(torch.eye(8))
    loss.setup(model)
    before = loss.queue.clone()
    loss.step(model, batch_of([waves(4, 8).float(), waves(4, 8).float()]), at(0))
    assert torch.equal(loss.queue, before)


def test_the_accuracy_is_percent_and_equal_similarities_are_no_hit() -> None:
    loss = MoCoLoss(head=HEAD, embedding_dim=8, queue_size=4)
    loss.queue.copy_(torch.eye(8)[4:])
    own, other = torch.eye(8)[:4], torch.eye(8)[[0, 5, 6, 7]]
    assert loss.contrast(own, own).logs["accuracy"] == 100
    assert loss.contrast(other, other).logs["accuracy"] == 25, "three queries are as similar to a key of the queue"


def test_mistakes_are_named_before_the_run() -> None:
    asked = MoCoLossConf(queue_size=65536)
    wrong = problems(asked, batch_size=24, world_size=8, ranks_per_node=8, num_views=3, num_images=1_281_167)
    assert "MoCo needs exactly 2 views of every image; the data makes 3" in wrong
    assert "queue_size: got 65536, which is no multiple of the 192 images of a step: 65472 is" in wrong
    assert problems(MoCoLossConf(queue_size=64)) == ""
    assert inferred(asked, outputs=(128,)) == {"embedding_dim": 128}
    with pytest.raises(ValueError, match="MoCoLoss cannot be built without embedding_dim: give a value, or resolve"):
        MoCoLoss(head=HEAD)


class Batchwise(LinearModel):
    """Its outputs tell which images were in a pass together: the sum of the others is added."""

    def __init__(self) -> None:
        super().__init__(dim=4)
        self.bn = nn.BatchNorm1d(4, affine=False).double()

    def forward(self, views, *, masks=(), heads=None, features=NOTHING) -> Outputs:  # type: ignore[no-untyped-def]  # as in the base
        return Outputs({HEAD: (self.bn(super().forward(views).of(HEAD)),)}, {})


def keys(shuffle: bool) -> tuple[Tensor, Tensor]:
    """Keys of this rank's images, and those that its own batch alone would have had."""
    loss = MoCoLoss(head=HEAD, embedding_dim=4, queue_size=8, shuffle=shuffle)
    model = Batchwise()
    loss.setup(model)
    own = waves(8, 4, 1, 1).chunk(distributed.world_size())[distributed.rank()]
    alone = F.normalize(model([own]).of(HEAD), dim=1)
    return loss._keys_of(own, at(0)), alone


def test_shuffled_keys_come_back_in_order_and_from_other_batches() -> None:
    assert all(torch.allclose(got, alone) for got, alone in run_on_ranks(keys, 2, False))
    results = run_on_ranks(keys, 2, True)
    assert not any(torch.allclose(got, alone) for got, alone in results)
    images, model = waves(8, 4, 1, 1), Batchwise()
    want = torch.empty(8, 4, dtype=torch.float64)
    for batch in torch.randperm(8, generator=torch.Generator().manual_seed(0)).chunk(2):
        want[batch] = F.normalize(model([images[batch]]).of(HEAD), dim=1).detach()
    torch.testing.assert_close(torch.cat([got for got, _ in results]), want)

"""NPID and PIRL beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
from losses.proofs import LinearModel, waves
from losses.told import inferred, problems

from ssltyped.losses.npid import Contrast, MemoryBankLoss, MemoryBankLossConf
from ssltyped.types import Batch


def batch(*index: int) -> Batch:
    return Batch(views=(waves(len(index), 5, 1, 1).float(),), index=torch.tensor(index))


def test_only_the_images_of_the_batch_move_in_the_bank() -> None:
    loss, model = MemoryBankLoss(embedding_dim=5, num_images=30, num_negatives=4), LinearModel().float()
    before = loss.memory.clone()
    loss.step(model, batch(3, 17))
    assert torch.equal(loss.memory, before), "not before the update"
    loss.after_update(model, 0.5)
    moved = (loss.memory != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [3, 17]
    torch.testing.assert_close(loss.memory.norm(dim=1), torch.ones(30))


def test_the_constant_is_that_of_the_first_batch_for_ever() -> None:
    loss, model = MemoryBankLoss(embedding_dim=5, num_images=30, num_negatives=4), LinearModel().float()
    assert loss.z == -1
    loss.step(model, batch(3, 17))
    loss.after_update(model, 0.5)
    first = loss.z.clone()
    assert first > 0
    loss.step(model, batch(4, 5))
    loss.after_update(model, 1.0)
    assert torch.equal(loss.z, first)
    assert MemoryBankLoss(embedding_dim=5, num_images=30, norm_constant=7.0).z == 7


def test_of_several_views_the_last_counts() -> None:
    loss = MemoryBankLoss(embedding_dim=3, num_images=9, momentum=0.0)
    rows = torch.eye(3)
    loss.move(torch.tensor([4, 7, 4]), rows)
    assert torch.equal(loss.memory[[4, 7]], rows[[2, 1]])


def test_one_output_can_move_the_bank_alone() -> None:
    loss = MemoryBankLoss(
        embedding_dim=5, num_images=9, num_negatives=4, loss_weights=[0.5, 0.5], memory_output=1, momentum=0.0
    )
    model = LinearModel(scored=(5,)).float()
    loss.step(model, batch(2, 6))
    second = model.calls[0][1].detach()
    loss.after_update(model, 0.5)
    torch.testing.assert_close(loss.memory[[2, 6]], torch.nn.functional.normalize(second, dim=1))


def test_what_it_infers_and_refuses() -> None:
    asked = MemoryBankLossConf(loss_weights=[0.5, 0.5], memory_output=2)
    assert inferred(asked, output_dims=(128, 128)) == {"embedding_dim": 128, "num_images": 64}
    wrong = problems(asked, output_dims=(128, 64, 64))
    assert "loss_weights: has 2 values, and the model 3 outputs: one each" in wrong
    assert "embedding_dim: the outputs are (128, 64, 64) wide" in wrong
    assert "memory_output: got 2; there are 2 outputs, from 0" in wrong
    fixed = MemoryBankLossConf(contrast=Contrast.INFO_NCE, norm_constant=5.0)
    assert "norm_constant: has no effect with info_nce" in problems(fixed)
    loss = MemoryBankLoss(embedding_dim=5, num_images=9)
    with pytest.raises(ValueError, match="loss_weights has 1 values, and the model gives 2 outputs"):
        loss.step(LinearModel(scored=(5,)).float(), batch(1, 2))

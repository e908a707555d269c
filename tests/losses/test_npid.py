"""NPID and PIRL beyond what `test_proofs.py` proves of every loss; random numbers that no rank owns."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from losses.direct import MatrixModel, batch_of
from losses.proofs import HEAD, LinearModel, at, waves
from losses.slow_targets import drawn
from losses.told import inferred, problems

from ssltyped.config import replaced
from ssltyped.losses.npid import Contrast, MemoryBankLoss, MemoryBankLossConf, draw
from ssltyped.types import Batch


def batch(*index: int) -> Batch:
    return Batch(views=(waves(len(index), 5, 1, 1).float(),), index=torch.tensor(index))


def test_only_the_images_of_the_batch_move_in_the_bank() -> None:
    loss, model = MemoryBankLoss(heads=[HEAD], embedding_dim=5, num_images=30, num_negatives=4), LinearModel().float()
    before = loss.memory.clone()
    carry = loss.step(model, batch(3, 17), at(0)).carry
    assert torch.equal(loss.memory, before), "not before the update"
    loss.update(model, [carry], at(0))
    moved = (loss.memory != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [3, 17]
    torch.testing.assert_close(loss.memory.norm(dim=1), torch.ones(30))


def test_the_constant_is_that_of_the_first_batch_for_ever() -> None:
    loss, model = MemoryBankLoss(heads=[HEAD], embedding_dim=5, num_images=30, num_negatives=4), LinearModel().float()
    assert loss.z == -1
    loss.update(model, [loss.step(model, batch(3, 17), at(0)).carry], at(0))
    first = loss.z.clone()
    assert first > 0
    loss.update(model, [loss.step(model, batch(4, 5), at(1)).carry], at(1))
    assert torch.equal(loss.z, first)
    assert MemoryBankLoss(heads=[HEAD], embedding_dim=5, num_images=30, norm_constant=7.0).z == 7


def test_of_several_views_the_last_counts() -> None:
    loss = MemoryBankLoss(heads=[HEAD], embedding_dim=3, num_images=9, momentum=0.0)
    rows = torch.eye(3)
    loss.move(torch.tensor([4, 7, 4]), rows)
    assert torch.equal(loss.memory[[4, 7]], rows[[2, 1]])


def test_one_output_can_move_the_bank_alone() -> None:
    loss = MemoryBankLoss(
        heads=["0", "1"],
        embedding_dim=5,
        num_images=9,
        num_negatives=4,
        loss_weights=[0.5, 0.5],
        memory_head="1",
        momentum=0.0,
    )
    model = LinearModel(scored=(5,), apart=True).float()
    loss.update(model, [loss.step(model, batch(2, 6), at(0)).carry], at(0))
    second = model.calls[0][1].detach()
    torch.testing.assert_close(loss.memory[[2, 6]], torch.nn.functional.normalize(second, dim=1))


def test_what_it_infers_and_refuses() -> None:
    asked = MemoryBankLossConf(heads=["image", "patches"], loss_weights=[0.5, 0.5], memory_head="patch")
    two: dict[str, object] = {"heads": ("image", "patches"), "output_dims": {"image": (128,), "patches": (128,)}}
    assert inferred(asked, (), **two) == {"embedding_dim": 128, "num_images": 64}
    three: dict[str, object] = {"heads": ("a", "b", "c"), "output_dims": {"a": (128,), "b": (64,), "c": (64,)}}
    wrong = problems(replaced(asked, {"heads": ["a", "b", "c"]}), (), **three)
    assert "loss_weights: has 2 values for the heads a, b, c: one each" in wrong
    assert "embedding_dim: the heads are {'a': 128, 'b': 64, 'c': 64} wide" in wrong
    assert "memory_head: got 'patch'; the method reads a, b, c" in wrong
    assert "heads.0: got 'x'; the model has head" in problems(MemoryBankLossConf(heads=["x"]))
    fixed = MemoryBankLossConf(contrast=Contrast.INFO_NCE, norm_constant=5.0)
    assert "norm_constant: has no effect with info_nce" in problems(fixed)
    with pytest.raises(ValueError, match="loss_weights has 1 values for the heads a, b: one each"):
        MemoryBankLoss(heads=["a", "b"], embedding_dim=5, num_images=9)


def test_accumulated_batches_need_a_constant() -> None:
    """Z is estimated on the first batch; given, several batches move the bank as one does."""
    assert "norm_constant: Z is estimated on the first batch" in problems(MemoryBankLossConf(), accumulation=2)
    assert problems(MemoryBankLossConf(norm_constant=9.0), accumulation=2) == ""
    banks = []
    for batches in ([batch(2, 6, 4, 1)], [batch(2, 6), batch(4, 1)]):
        torch.manual_seed(0)
        loss = MemoryBankLoss(heads=[HEAD], embedding_dim=5, num_images=9, num_negatives=4, norm_constant=9.0)
        views = torch.split(waves(4, 5, 1, 1).float(), [len(one.index) for one in batches])
        given = [Batch(views=(view,), index=one.index) for view, one in zip(views, batches, strict=True)]
        model = LinearModel().float()
        loss.update(model, [loss.step(model, one, at(0)).carry for one in given], at(0))
        banks.append(loss.memory)
    torch.testing.assert_close(*banks)


def test_as_in_integers_that_do_not_wrap() -> None:
    index = torch.tensor([0, 1, 7, 1_281_166, 2**40])
    got = draw(index, 9, 1_281_167, stream=5_000_000)
    assert got.tolist() == [drawn(int(i), 9, 1_281_167, 5_000_000) for i in index]


def test_all_numbers_are_equally_likely() -> None:
    below, count = 50, 4000
    numbers = draw(torch.arange(40), count, below, stream=3)
    assert numbers.min() == 0
    assert numbers.max() == below - 1
    expected = 40 * count / below
    squares = ((torch.bincount(numbers.flatten(), minlength=below) - expected) ** 2 / expected).sum()
    assert squares < 120, "chi squared with 49 degrees of freedom: above 120 once in ten million"


def test_streams_and_images_differ_and_repeat() -> None:
    index = torch.arange(4)
    first = draw(index, 64, 1000, stream=1)
    assert torch.equal(first, draw(index, 64, 1000, stream=1))
    assert (first != draw(index, 64, 1000, stream=2)).float().mean() > 0.95
    assert (first[0] != first[1]).float().mean() > 0.95
    assert torch.equal(draw(index[2:], 64, 1000, stream=1), first[2:]), "of the image, not of its place"


def test_a_constant_that_follows_the_scores_keeps_the_loss_in_its_range() -> None:
    """The bank holds what the model gives, as after training: own scores are 1 / T; the others' are as at random."""
    losses, constants, highest = {}, {}, 0.0
    for kept in (1.0, 0.5):
        torch.manual_seed(0)
        loss = MemoryBankLoss(
            heads=[HEAD], embedding_dim=8, num_images=40, num_negatives=32, norm_constant_momentum=kept
        )
        model = MatrixModel(torch.eye(8))
        batch = batch_of([waves(40, 8).float()])
        first = loss.step(model, batch, at(0))
        loss.update(model, [first.carry], at(0))
        loss.memory.copy_(F.normalize(waves(1, 8).float(), dim=1).expand(40, 8))
        alike = batch_of([waves(1, 8).float().expand(40, 8)])
        for step in range(1, 40):
            found = loss.step(model, alike, at(step))
            loss.update(model, [found.carry], at(step))
        assert found.expected is not None
        highest = found.expected.highest
        losses[kept], constants[kept] = found.loss.item(), loss.z.item()
    uniform = math.log(33) + 32 * math.log(33 / 32)
    assert losses[0.5] == pytest.approx(uniform, rel=1e-3), "all are alike, and Z knows"
    assert constants[0.5] == pytest.approx(40 * math.exp(1 / 0.07), rel=1e-3)
    assert highest == pytest.approx(uniform + 2 / 0.07)
    assert losses[1.0] > highest


def test_the_constant_moves_by_the_mean_of_the_batches_of_a_step() -> None:
    loss = MemoryBankLoss(heads=[HEAD], embedding_dim=5, num_images=30, num_negatives=4, norm_constant_momentum=0.9)
    model = MatrixModel(torch.eye(5))
    carry = dict(loss.step(model, batch_of([waves(4, 5).float()]), at(0)).carry)
    loss.z.fill_(10.0)
    loss.update(model, [{**carry, "z": torch.tensor(20.0)}, {**carry, "z": torch.tensor(40.0)}], at(0))
    assert loss.z.item() == pytest.approx(0.9 * 10 + 0.1 * 30)


def test_a_momentum_that_has_no_effect_is_refused() -> None:
    given = MemoryBankLossConf(norm_constant=9.0, norm_constant_momentum=0.9)
    assert "norm_constant_momentum: has no effect on a norm_constant that is given" in problems(given)
    softmax = MemoryBankLossConf(contrast=Contrast.INFO_NCE, norm_constant_momentum=0.9)
    assert "norm_constant_momentum: has no effect with info_nce" in problems(softmax)


def test_a_fixed_constant_stays_though_the_scores_overflow() -> None:
    """An estimate that nobody uses is not multiplied by 0 either: inf would make it nan."""
    loss = MemoryBankLoss(heads=[HEAD], embedding_dim=5, num_images=30, num_negatives=4, temperature=0.001)
    loss.z.fill_(50.0)
    model = LinearModel().float()
    assert loss.step(model, batch(3, 17), at(0)).carry["z"].isinf()
    loss.update(model, [loss.step(model, batch(3, 17), at(0)).carry], at(0))
    assert loss.z == 50

"""What must be true of every loss. A new one joins with a line in PROOFS and its loops in a `slow` module."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from losses.list import PROOFS
from losses.proofs import Proof, Result, Seen, Training, as_model, at, facts, result, share, tensors, three_steps
from ranks import run_on_ranks
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from ssltyped.types import Batch

SCALES = {"zero": 0.0, "huge": 1e4}
every_loss = pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.name)


def _close(got: Tensor, want: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@every_loss
def test_the_paper_in_plain_loops(proof: Proof) -> None:
    training = Training(proof)
    training.start()
    for number in range(3):
        training.loss.on_epoch_start(as_model(training.model), at(number))
        before = {name: value.clone() for name, value in tensors(training.loss).items()}
        weights = {name: value.clone() for name, value in training.model.state_dict().items()}
        value = result(training, number).loss
        leaves = [[_leaf(out) for out in call] for call in as_model(training.model).calls]
        teacher = [call for model in proof.teacher(training.loss) for call in as_model(model).calls]
        batch = share(proof.batch_of_step(number), torch.float64)
        slow = proof.slow(Seen(leaves, teacher, before, weights, batch, number))
        torch.autograd.backward(slow.loss)
        _close(value, slow.loss.detach())
        for call, recorded in zip(leaves, as_model(training.model).calls, strict=True):
            for ours, theirs in zip(recorded, call, strict=True):
                _close(_grad(ours), _grad(theirs))
        after = tensors(training.loss)
        for name, value in slow.state.items():
            _close(after[name], value)


def _leaf(out: Tensor) -> Tensor:
    return out.detach().clone().requires_grad_(out.requires_grad)


def _grad(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


@every_loss
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_give_the_steps_of_one_process(proof: Proof, world: int) -> None:
    want = three_steps(proof)
    assert max(grad.abs().max().item() for grad in want[-1].gradients) > 1e-3, "nothing to compare"
    for results in run_on_ranks(three_steps, world, proof):
        for ours, theirs in zip(results, want, strict=True):
            _same(ours, theirs)


def _same(ours: Result, theirs: Result) -> None:
    _close(ours.loss, theirs.loss)
    for part in ("gradients", "weights"):
        for a, b in zip(getattr(ours, part), getattr(theirs, part), strict=True):
            _close(a, b)
    assert ours.state.keys() == theirs.state.keys()
    for name, value in theirs.state.items():
        _close(ours.state[name], value)


@every_loss
@pytest.mark.parametrize("world", [1, 2])
def test_accumulated_batches_are_one_large_batch_or_refused(proof: Proof, world: int) -> None:
    loss = proof.make()
    told = " ".join(map(str, loss.problems(loss, facts(accumulation=2))))
    assert loss.whole_batch in told
    if "accumul" in told or not proof.accumulates:
        return
    want = three_steps(proof)
    for results in run_on_ranks(three_steps, world, proof, 2):
        for ours, theirs in zip(results, want, strict=True):
            _same(ours, theirs)


@every_loss
def test_steps_change_nothing_before_the_update(proof: Proof) -> None:
    """A step that is computed twice, or not taken, leaves the state as it was and gives the same again."""
    training = Training(proof)
    training.step(0)
    training.loss.on_epoch_start(as_model(training.model), at(1))
    before = {name: value.clone() for name, value in tensors(training.loss).items()}
    batch = share(proof.batch_of_step(1), torch.float64)
    values = []
    for _ in range(2):
        torch.manual_seed(1)
        values.append(training.loss.step(as_model(training.model), batch, at(1)).loss.detach())
    assert torch.equal(*values)
    for name, value in tensors(training.loss).items():
        assert torch.equal(value, before[name]), name


@every_loss
def test_saved_and_loaded_goes_on_bitwise(proof: Proof) -> None:
    straight, first, second = Training(proof), Training(proof), Training(proof)
    values = [straight.step(number) for number in range(4)]
    assert torch.equal(first.step(0), values[0])
    assert torch.equal(first.step(1), values[1])
    second.load(first.save())
    assert [float(second.step(number)) for number in (2, 3)] == [float(value) for value in values[2:]]
    for ours, theirs in zip(second.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for name, value in tensors(straight.loss).items():
        assert torch.equal(tensors(second.loss)[name], value), name
    assert values[0] != values[3]


@every_loss
def test_under_bfloat16_autocast_everything_learns(proof: Proof) -> None:
    want = Training(proof, dtype=torch.float32).step(0)
    training = Training(proof, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = training.step(0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, rtol=proof.bfloat16, atol=proof.bfloat16)
    _learns(training)


@every_loss
def test_one_image_a_rank_learns_or_is_refused(proof: Proof) -> None:
    training = Training(proof, dtype=torch.float32)
    training.start()
    training.proof = _with_one_image(proof)
    if proof.single:
        assert training.step(0).isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in training.model.parameters())
    else:
        views = proof.num_views
        told = facts(batch_size=1, num_views=views, crop_sizes=(8,) * views, inputs={"images": views})
        assert list(training.loss.problems(training.loss, told)), "a batch of one must be refused"


def _with_one_image(proof: Proof) -> Proof:
    def first(step: int, images: int) -> Batch:
        batch = proof.batch_of_step(step, images)
        masks = tuple(None if mask is None else mask[:1] for mask in batch.masks)
        label = None if batch.label is None else batch.label[:1]
        return Batch(views=tuple(v[:1] for v in batch.views), index=batch.index[:1], label=label, masks=masks)

    return dataclasses.replace(proof, batch=first)


@every_loss
@pytest.mark.parametrize("case", ["equal", "zero", "huge"])
def test_equal_and_huge_embeddings_are_finite(proof: Proof, case: str) -> None:
    training = Training(_scaled(proof, case), dtype=torch.float32)
    assert training.step(0).isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in training.model.parameters())
    assert all(value.isfinite().all() for value in training.state().values() if value.is_floating_point())


def _scaled(proof: Proof, case: str) -> Proof:
    def batch(step: int, images: int) -> Batch:
        usual = proof.batch_of_step(step, images)
        views = tuple(torch.ones_like(v) if case == "equal" else v * SCALES[case] for v in usual.views)
        return dataclasses.replace(usual, views=views)

    return dataclasses.replace(proof, batch=batch)


def _learns(training: Training) -> None:
    named = [*training.model.named_parameters(), *training.loss.named_parameters()]
    for name, parameter in named:
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("proof", [proof for proof in PROOFS if proof.memory_growth], ids=lambda proof: proof.name)
def test_memory_and_time_grow_with_the_images_as_they_are_said_to(proof: Proof) -> None:
    """Measured: bytes that autograd keeps, and operations of matrix products, of 64 and of 256 images."""
    (bytes_small, flops_small), (bytes_large, flops_large) = (_costs(proof, images) for images in (64, 256))
    assert 4**proof.memory_growth * 0.6 < bytes_large / bytes_small < 4**proof.memory_growth * 1.3
    assert 4**proof.time_growth * 0.6 < flops_large / flops_small < 4**proof.time_growth * 1.3


def _costs(proof: Proof, images: int) -> tuple[int, int]:
    """Bytes kept for the backward pass, and floating-point operations of both passes in products of matrices."""
    training = Training(proof)
    training.start()
    batch = proof.batch_of_step(0, images)
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    fixed = {p.untyped_storage().data_ptr() for p in (*training.model.parameters(), *training.loss.buffers())}
    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            output = training.loss.step(as_model(training.model), batch, at(0))
        torch.autograd.backward(output.loss)
    return sum(size for pointer, size in saved.items() if pointer not in fixed), counter.get_total_flops()

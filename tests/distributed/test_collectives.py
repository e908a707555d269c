"""Collectives and their gradients on real ranks, and as identities without a process group."""

from __future__ import annotations

import warnings

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor

from ssltyped import distributed


def _rows(rank: int, count: int = 2) -> Tensor:
    return torch.arange(3.0 * count, dtype=torch.float64).reshape(count, 3) + 10 * rank


def _weights(rank: int, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rank)
    return torch.rand(rows, 3, dtype=torch.float64, generator=generator)


def _without_gradient() -> tuple[int, bool, list[Tensor]]:
    r = distributed.rank()
    x = _rows(r).requires_grad_()
    distributed.barrier()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = [
            distributed.all_reduce_sum(x),
            distributed.all_reduce_mean(x),
            distributed.gather_no_grad(x),
            distributed.gather_no_grad(torch.tensor([r])),
            distributed.broadcast(x, source=1),
            distributed.all_reduce_sum(_rows(r).bfloat16()),
            distributed.gather_no_grad(_rows(r).bfloat16()),
        ]
    assert not any(tensor.requires_grad for tensor in out)
    assert torch.equal(x.detach(), _rows(r)), "the input must not change"
    return distributed.world_size(), distributed.is_main(), out


def _gathered(uneven: bool) -> tuple[Tensor, Tensor]:
    """gather, then a loss that differs from rank to rank; the output and the gradient of this rank's rows."""
    r = distributed.rank()
    x = _rows(r, count=r if uneven else 2).requires_grad_()
    y = distributed.gather_uneven(x) if uneven else distributed.gather(x)
    torch.autograd.backward((y.square() * _weights(r, len(y))).sum())
    assert x.grad is not None
    return y.detach(), x.grad


def _reduced() -> tuple[Tensor, Tensor]:
    x = _rows(distributed.rank()).requires_grad_()
    y = distributed.all_reduce(x)
    torch.autograd.backward((y.square() * _weights(distributed.rank(), 2)).sum())
    assert x.grad is not None
    return y.detach(), x.grad


def _no_rows() -> tuple[int, ...]:
    return tuple(distributed.gather_uneven(torch.zeros(0, 3)).shape)


@pytest.mark.parametrize("world", [2, 4])
def test_collectives_without_gradient(world: int) -> None:
    rows = torch.stack([_rows(r) for r in range(world)])
    expected = [
        rows.sum(0),
        rows.mean(0),
        rows.flatten(0, 1),
        torch.arange(world),
        rows[1],
        rows.sum(0).bfloat16(),
        rows.flatten(0, 1).bfloat16(),
    ]
    for r, (size, main, out) in enumerate(run_on_ranks(_without_gradient, world)):
        assert (size, main) == (world, r == 0)
        for got, want in zip(out, expected, strict=True):
            assert got.dtype == want.dtype
            assert torch.equal(got, want)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("world", [2, 4])
def test_gather_has_the_gradient_of_the_sum_of_all_losses(world: int, uneven: bool) -> None:
    counts = [r if uneven else 2 for r in range(world)]
    parts = [_rows(r, count).requires_grad_() for r, count in enumerate(counts)]
    everything = torch.cat(parts)
    losses = [(everything.square() * _weights(r, len(everything))).sum() for r in range(world)]
    torch.autograd.backward(torch.stack(losses).sum())
    for part, (y, grad) in zip(parts, run_on_ranks(_gathered, world, uneven), strict=True):
        assert part.grad is not None
        assert torch.equal(y, everything.detach())
        torch.testing.assert_close(grad, part.grad, rtol=1e-12, atol=1e-12)


def test_all_reduce_has_the_gradient_of_the_sum_of_all_losses() -> None:
    parts = [_rows(r).requires_grad_() for r in range(2)]
    total = parts[0] + parts[1]
    torch.autograd.backward((total.square() * (_weights(0, 2) + _weights(1, 2))).sum())
    for part, (y, grad) in zip(parts, run_on_ranks(_reduced, 2), strict=True):
        assert part.grad is not None
        assert torch.equal(y, total.detach())
        torch.testing.assert_close(grad, part.grad, rtol=1e-12, atol=1e-12)


def test_gather_uneven_of_nothing() -> None:
    assert run_on_ranks(_no_rows, 2) == [(0, 3), (0, 3)]


def test_one_process_is_the_identity() -> None:
    x = _rows(0).requires_grad_()
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    distributed.barrier()
    assert distributed.gather(x) is x
    assert distributed.all_reduce(x) is x
    assert distributed.gather_uneven(x) is x
    for out in (
        distributed.all_reduce_sum(x),
        distributed.all_reduce_mean(x),
        distributed.gather_no_grad(x),
        distributed.broadcast(x),
    ):
        assert torch.equal(out, x)
        assert not out.requires_grad

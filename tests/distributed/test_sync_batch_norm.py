"""SyncBatchNorm on W ranks against BatchNorm on all rows in one process."""

from __future__ import annotations

import copy
from typing import Optional

import pytest
import torch
from ranks import RankError, run_on_ranks
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.distributed.sync_batch_norm import SyncBatchNorm, convert_sync_batchnorm

CHANNELS = 3


def _input(shape: tuple[int, ...]) -> Tensor:
    """Values with a large mean, which would cancel in E[x^2] - E[x]^2."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 + 100


def _norm(dims: int, momentum: Optional[float] = 0.1, affine: bool = True) -> nn.Module:
    kind = nn.BatchNorm2d if dims == 4 else nn.BatchNorm1d
    norm = kind(CHANNELS, momentum=momentum, affine=affine, dtype=torch.float64)
    with torch.no_grad():
        for offset, parameter in enumerate(norm.parameters()):
            parameter.copy_(torch.arange(CHANNELS) + 0.5 + offset)
    return norm


def _two_steps(norm: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and input gradient of the last step, parameter gradients, buffers."""
    rows = x.clone().requires_grad_()
    norm(rows * 0.5)
    y = norm(rows)
    (y**3).sum().backward()
    assert rows.grad is not None
    own = [parameter.grad for parameter in norm.parameters() if parameter.grad is not None]
    return [y.detach(), rows.grad, *own, *norm.buffers()]


def _on_rank(norm: nn.Module, parts: list[Tensor], group_size: int) -> tuple[list[Tensor], bool]:
    model = nn.Sequential(copy.deepcopy(norm))
    assert convert_sync_batchnorm(model, group_size) is model
    assert list(model[0].state_dict()) == list(norm.state_dict())
    teacher = copy.deepcopy(model[0])  # a copy synchronises too
    return _two_steps(teacher, parts[distributed.rank()]), isinstance(teacher, SyncBatchNorm)


def _compare(norm: nn.Module, x: Tensor, sizes: list[int]) -> None:
    """Ranks with `sizes` rows each against one process with all rows."""
    parts = list(torch.split(x, sizes))
    y, grad, *rest = _two_steps(copy.deepcopy(norm), x)
    num_parameters = len(list(norm.parameters()))
    results = run_on_ranks(_on_rank, len(sizes), norm, parts, len(sizes))
    assert all(synchronised for _, synchronised in results)
    outs = [out for out, _ in results]
    torch.testing.assert_close(torch.cat([out[0] for out in outs]), y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat([out[1] for out in outs]), grad, rtol=1e-10, atol=1e-10)
    for number, want in enumerate(rest):
        ranks = torch.stack([out[2 + number] for out in outs])
        if number < num_parameters:  # gradients, which DDP averages; losses are sums here
            torch.testing.assert_close(ranks.sum(0), want, rtol=1e-10, atol=1e-10)
        else:
            torch.testing.assert_close(ranks, want.expand_as(ranks), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(8, CHANNELS), (8, CHANNELS, 2, 3)])
@pytest.mark.parametrize("sizes", [[4, 4], [2, 2, 2, 2], [7, 1], [8, 0]])
def test_ranks_give_the_result_of_one_process(shape: tuple[int, ...], sizes: list[int]) -> None:
    _compare(_norm(len(shape)), _input(shape), sizes)


@pytest.mark.parametrize("momentum, affine", [(None, True), (0.3, False)])
def test_other_settings(momentum: Optional[float], affine: bool) -> None:
    _compare(_norm(2, momentum, affine), _input((8, CHANNELS)), [4, 4])


def _groups_of_two(x: Tensor) -> Tensor:
    norm = convert_sync_batchnorm(_norm(2), 2)
    return _two_steps(copy.deepcopy(norm), x[distributed.rank()])[0]


def test_groups_of_consecutive_ranks() -> None:
    x = _input((4, 4, CHANNELS))
    outs = run_on_ranks(_groups_of_two, 4, x)
    for first in (0, 2):
        want = _two_steps(_norm(2), x[first : first + 2].flatten(0, 1))[0]
        torch.testing.assert_close(torch.cat(outs[first : first + 2]), want, rtol=1e-10, atol=1e-10)


def _evaluation(x: Tensor) -> bool:
    norm = _norm(2)
    synchronised = convert_sync_batchnorm(copy.deepcopy(norm), 2)
    return torch.equal(synchronised.eval()(x), norm.eval()(x)) and not convert_sync_batchnorm(norm.eval(), 2).training


def _bfloat16() -> tuple[torch.dtype, bool]:
    norm = convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS), 2)
    x = _input((4, CHANNELS)).bfloat16().requires_grad_()
    y = norm(x)
    y.float().square().sum().backward()
    return y.dtype, x.grad is not None and x.grad.dtype == x.dtype and bool(x.grad.isfinite().all())


def _too_few() -> None:
    convert_sync_batchnorm(_norm(2), 2)(_input((1 - distributed.rank(), CHANNELS)))


def _bad_group() -> None:
    convert_sync_batchnorm(_norm(2), 3)


def test_evaluation_uses_the_running_statistics() -> None:
    assert all(run_on_ranks(_evaluation, 2, _input((5, CHANNELS))))


def test_bfloat16_keeps_its_dtype() -> None:
    assert run_on_ranks(_bfloat16, 2) == [(torch.bfloat16, True)] * 2


class _Shared(nn.Module):
    """One norm under two names and, deeper, in a module that is there twice; no child under a third name."""

    def __init__(self) -> None:
        super().__init__()
        self.a = self.b = _norm(2)
        self.first = self.second = nn.Sequential(self.a, _norm(2))
        self.nothing: Optional[nn.Module]
        self.register_module("nothing", None)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(self.b(self.a(x)) * 2))
        return y


def _shared(parts: list[Tensor]) -> tuple[list[Tensor], bool]:
    module = _Shared()
    names = list(module.state_dict())
    assert convert_sync_batchnorm(module, 2) is module
    one = module.a is module.b is module.first[0] and module.first is module.second and module.nothing is None
    synchronised = isinstance(module.b, SyncBatchNorm) and isinstance(module.first[1], SyncBatchNorm)
    assert list(module.state_dict()) == names
    return _two_steps(module, parts[distributed.rank()]), one and synchronised


def test_a_layer_at_several_places_is_converted_at_all() -> None:
    x = _input((8, CHANNELS))
    y, grad, *_ = _two_steps(_Shared(), x)
    results = run_on_ranks(_shared, 2, list(torch.split(x, [5, 3])))
    assert all(good for _, good in results)
    torch.testing.assert_close(torch.cat([out[0] for out, _ in results]), y, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(torch.cat([out[1] for out, _ in results]), grad, rtol=1e-8, atol=1e-8)


def test_one_process_or_group_size_1_changes_nothing() -> None:
    norm = _norm(4)
    assert convert_sync_batchnorm(norm, 1) is norm
    mine = SyncBatchNorm(num_features=CHANNELS).double()
    theirs = nn.BatchNorm1d(CHANNELS).double()
    torch.testing.assert_close(mine(_input((8, CHANNELS))), theirs(_input((8, CHANNELS))), rtol=0, atol=0)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="group_size is 2; it must divide the number of ranks, 1"):
        convert_sync_batchnorm(_norm(2), 2)
    with pytest.raises(ValueError, match="got 1 dimensions"):
        SyncBatchNorm(num_features=CHANNELS)._check_input_dim(torch.zeros(3))  # forward is shape-checked in tests
    with pytest.raises(RankError, match="more than one value a channel in training; got 1"):
        run_on_ranks(_too_few, 2)
    with pytest.raises(RankError, match="group_size is 3"):
        run_on_ranks(_bad_group, 2)

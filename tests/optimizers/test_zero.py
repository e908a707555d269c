"""ZeRO: on two ranks what one optimizer alone gives, with about half of the state on each, and complete checkpoints."""

import importlib.util
import io

import pytest
import torch
from facts import FACTS
from ranks import run_on_ranks
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.groups import Group
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.lars import LARS
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.torch_optim import SGD, AdamW
from ssltyped.optimizers.zero import Backend, Zero, ZeroConf, full_state, local, own_state

BACKENDS = list(Backend)


def component(name: str, zero: Zero | None) -> GroupedOptimizer:
    if name == "adamw":
        return AdamW(rate=Rate(lr=0.1), weight_decay=0.3, groups=[Group(parts=["3"], lr=0.02)], zero=zero)
    if name == "lars":
        return LARS(rate=Rate(lr=0.1), weight_decay=0.3, exclude_bias_and_norm=True, zero=zero)
    return SGD(rate=Rate(lr=0.1), weight_decay=0.3, larc=LARC(trust_coefficient=0.1), zero=zero)


def layers() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(*[nn.Linear(5, 5) for _ in range(6)])


def give_grads(module: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1) * group["lr_scale"]
        give_grads(module, step)
        optimizer.step()


def held(optimizer: torch.optim.Optimizer) -> int:
    """Numbers of state on this rank."""
    states = local(optimizer).state.values()
    return sum(value.numel() for state in states for value in state.values() if isinstance(value, Tensor))


def with_zero(name: str, backend: Backend) -> tuple[list[Tensor], int, bytes]:
    """Parameters after three steps, the size of this rank's state, and what rank 0 would save after two."""
    module = layers()
    optimizer = component(name, Zero(backend=backend))(module)
    train(module, optimizer, range(2))
    full = full_state(optimizer)
    own = own_state(optimizer)["state"]
    assert isinstance(own, dict)
    assert 0 < len(own) < len(list(module.parameters()))
    file = io.BytesIO()
    if distributed.is_main():
        torch.save(full, file)
    train(module, optimizer, range(2, 3))
    return [parameter.detach() for parameter in module.parameters()], held(optimizer), file.getvalue()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["adamw", "lars", "larc"])
def test_two_ranks_do_what_one_does(name: str, backend: Backend) -> None:
    module = layers()
    alone = component(name, None)(module)
    train(module, alone, range(2))
    saved = torch.load(io.BytesIO(run_on_ranks(with_zero, 2, name, backend)[0][2]), weights_only=True)
    state = alone.state_dict()
    assert [set(group) for group in saved["param_groups"]] == [set(group) for group in state["param_groups"]]
    torch.testing.assert_close(saved["state"], state["state"], rtol=0, atol=0)
    train(module, alone, range(2, 3))
    for parameters, size, _ in run_on_ranks(with_zero, 2, name, backend):
        for got, want in zip(parameters, module.parameters(), strict=True):
            assert torch.equal(got, want)
        assert 0.4 * held(alone) < size < 0.6 * held(alone)


def resumed(name: str, backend: Backend, saved: bytes, parameters: list[Tensor]) -> list[Tensor]:
    """Two steps were done elsewhere; the third here."""
    module = layers()
    for own, given in zip(module.parameters(), parameters, strict=True):
        own.data.copy_(given)
    optimizer = component(name, Zero(backend=backend))(module)
    optimizer.load_state_dict(torch.load(io.BytesIO(saved), weights_only=True))
    train(module, optimizer, range(2, 3))
    return [parameter.detach() for parameter in module.parameters()]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["adamw", "lars", "larc"])
def test_a_checkpoint_goes_on_with_and_without_zero(name: str, backend: Backend) -> None:
    module = layers()
    alone = component(name, None)(module)
    train(module, alone, range(2))
    file = io.BytesIO()
    torch.save(alone.state_dict(), file)
    parameters = [parameter.detach().clone() for parameter in module.parameters()]
    train(module, alone, range(2, 3))
    want = [parameter.detach() for parameter in module.parameters()]
    saved = run_on_ranks(with_zero, 2, name, backend)[0][2]
    once = [resumed(name, backend, saved, parameters)]
    for got in once + run_on_ranks(resumed, 2, name, backend, file.getvalue(), parameters):
        for ours, theirs in zip(got, want, strict=True):
            assert torch.equal(ours, theirs)


def one_tensor() -> Tensor:
    """Fewer tensors than ranks."""
    module = nn.Linear(3, 3, bias=False)
    nn.init.ones_(module.weight)
    optimizer = SGD(rate=Rate(lr=1.0), momentum=0.0, weight_decay=0.0, larc=LARC(), zero=Zero())(module)
    module.weight.grad = torch.ones_like(module.weight)
    optimizer.step()
    return module.weight.detach()


def test_a_rank_without_a_share() -> None:
    first, second = run_on_ranks(one_tensor, 2)
    torch.testing.assert_close(first, torch.full((3, 3), 1 - 0.001))
    assert torch.equal(first, second)


def test_on_one_rank_it_is_the_optimizer_itself() -> None:
    optimizer = AdamW(rate=Rate(lr=0.1), zero=Zero())(layers())
    assert type(optimizer) is torch.optim.AdamW
    assert local(optimizer) is optimizer
    assert full_state(optimizer) == own_state(optimizer) == optimizer.state_dict()


def test_a_backend_that_is_not_installed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (problem,) = Zero.problems(ZeroConf(backend=Backend.FAIRSCALE), FACTS)
    assert problem.path == "backend"
    assert "pip install 'ssltyped[fairscale]'" in problem.message
    assert not list(Zero.problems(ZeroConf(), FACTS))

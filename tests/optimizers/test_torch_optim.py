"""The optimizers of torch.optim: the equations of their docstrings, with each option."""

import pytest
import torch
from facts import FACTS
from torch import nn

from ssltyped.optimizers.decay import Decay
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate, RateConf
from ssltyped.optimizers.torch_optim import (
    SGD,
    Adam,
    AdamW,
    RMSprop,
    SGDConf,
)


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_in_plain_steps(nesterov: bool) -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = SGD(rate=Rate(lr=0.1), momentum=0.5, nesterov=nesterov, weight_decay=0.2)(nn.ParameterList([p]))
    want, m = p.detach().clone(), torch.zeros(2, dtype=torch.float64)
    for grad in (torch.tensor([3.0, 1.0]), torch.tensor([-1.0, 4.0])):
        p.grad = grad.double()
        optimizer.step()
        g = grad + 0.2 * want
        m = 0.5 * m + g
        want = want - 0.1 * (g + 0.5 * m if nesterov else m)
        torch.testing.assert_close(p.detach(), want, rtol=1e-12, atol=1e-12)


def test_nesterov_without_momentum_is_a_problem() -> None:
    (problem,) = SGD.problems(SGDConf(rate=RateConf(lr=0.1), nesterov=True, momentum=0.0), FACTS)
    assert problem.path == "nesterov"
    assert not list(SGD.problems(SGDConf(rate=RateConf(lr=0.1), nesterov=True), FACTS))


def test_larc_is_attached() -> None:
    """A step of LARC at lr 1 without decay moves a tensor by trust_coefficient of its norm."""
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = SGD(rate=Rate(lr=1.0), weight_decay=0.0, larc=LARC(trust_coefficient=0.1))(nn.ParameterList([p]))
    p.grad = torch.tensor([100.0, 0.0])
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.tensor([2.5, 4.0]))


@pytest.mark.parametrize("amsgrad", [False, True])
def test_three_steps_in_plain_steps_of_adam(amsgrad: bool) -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = Adam(rate=Rate(lr=0.1), betas=(0.5, 0.8), eps=0.01, amsgrad=amsgrad, weight_decay=0.2)(
        nn.ParameterList([p])
    )
    want = p.detach().clone()
    m, v, largest = (torch.zeros(2, dtype=torch.float64) for _ in range(3))
    for step, grad in enumerate((torch.tensor([3.0, 1.0]), torch.tensor([-1.0, 0.1]), torch.tensor([0.2, 0.3])), 1):
        p.grad = grad.double()
        optimizer.step()
        g = grad.double() + 0.2 * want
        m, v = 0.5 * m + 0.5 * g, 0.8 * v + 0.2 * g**2
        largest = torch.maximum(largest, v)
        root = ((largest if amsgrad else v) / (1 - 0.8**step)).sqrt()
        want = want - 0.1 * (m / (1 - 0.5**step)) / (root + 0.01)
        torch.testing.assert_close(p.detach(), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_three_steps_in_plain_steps_of_adamw(amsgrad: bool) -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    adam = AdamW(rate=Rate(lr=0.1), betas=(0.5, 0.8), eps=0.01, amsgrad=amsgrad, weight_decay=0.2, decay=Decay())
    optimizer = adam(nn.ParameterList([p]))
    want = p.detach().clone()
    m, v, largest = (torch.zeros(2, dtype=torch.float64) for _ in range(3))
    for step, grad in enumerate((torch.tensor([3.0, 1.0]), torch.tensor([-1.0, 0.1]), torch.tensor([0.2, 0.3])), 1):
        p.grad = grad.double()
        optimizer.step()
        m, v = 0.5 * m + 0.5 * grad, 0.8 * v + 0.2 * grad.double() ** 2
        largest = torch.maximum(largest, v)
        root = ((largest if amsgrad else v) / (1 - 0.8**step)).sqrt()
        want = (1 - 0.1 * 0.2) * want - 0.1 * (m / (1 - 0.5**step)) / (root + 0.01)
        torch.testing.assert_close(p.detach(), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_three_steps_in_plain_steps_of_rmsprop(momentum: float, centered: bool) -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    rms = RMSprop(rate=Rate(lr=0.1), alpha=0.7, eps=0.01, momentum=momentum, centered=centered, weight_decay=0.2)
    optimizer = rms(nn.ParameterList([p]))
    want = p.detach().clone()
    mean, v, m = (torch.zeros(2, dtype=torch.float64) for _ in range(3))
    for grad in (torch.tensor([3.0, 1.0]), torch.tensor([-1.0, 0.1]), torch.tensor([0.2, 0.3])):
        p.grad = grad.double()
        optimizer.step()
        g = grad.double() + 0.2 * want
        v, mean = 0.7 * v + 0.3 * g**2, 0.7 * mean + 0.3 * g
        m = momentum * m + g / ((v - mean**2 if centered else v).sqrt() + 0.01)
        want = want - 0.1 * m
        torch.testing.assert_close(p.detach(), want, rtol=1e-12, atol=1e-12)

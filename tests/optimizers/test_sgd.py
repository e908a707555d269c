"""SGD: the equations of its docstring, its options, and LARC beside it."""

import pytest
import torch
from facts import FACTS
from torch import nn

from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate, RateConf
from ssltyped.optimizers.sgd import SGD, SGDConf


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

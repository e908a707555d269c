"""RMSprop: the equations of its docstring, with momentum and centered."""

import pytest
import torch
from torch import nn

from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.rmsprop import RMSprop


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_three_steps_in_plain_steps(momentum: float, centered: bool) -> None:
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

"""Adam: the equations of its docstring; its weight decay is part of the gradient."""

import pytest
import torch
from torch import nn

from ssltyped.optimizers.adam import Adam
from ssltyped.optimizers.rate import Rate


@pytest.mark.parametrize("amsgrad", [False, True])
def test_three_steps_in_plain_steps(amsgrad: bool) -> None:
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

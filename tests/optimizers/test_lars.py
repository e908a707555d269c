"""LARS: the equations of its docstring tensor by tensor, what is excluded, zero norms and its state."""

import copy

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn

from ssltyped.optimizers.decay import Decay
from ssltyped.optimizers.larc import LARCConf
from ssltyped.optimizers.lars import LARS, LARSConf
from ssltyped.optimizers.rate import Rate, RateConf


def params() -> list[nn.Parameter]:
    """A matrix, a vector, a matrix of zeros, a matrix without gradient, and one whose gradient is zero."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2, 3), (2, 2), (4, 2)]
    found = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]
    found[2].data.zero_()
    return found


def grads(step: int) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(1 + step)
    made: list[Tensor | None] = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in params()]
    made[3] = None
    made[4] = torch.zeros_like(params()[4])
    return made


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("wd", [0.0, 0.1])
def test_three_steps_in_plain_steps(wd: float, exclude: bool) -> None:
    ours, want = params(), [p.detach().clone() for p in params()]
    rate, decay = Rate(lr=0.3), Decay()
    lars = LARS(rate=rate, momentum=0.6, eta=0.02, exclude_bias_and_norm=exclude, weight_decay=wd, decay=decay)
    optimizer = lars(nn.ParameterList(ours))
    moments = [torch.zeros_like(p) for p in want]
    for step in range(3):
        for parameter, grad in zip(ours, grads(step), strict=True):
            parameter.grad = None if grad is None else grad.clone()
        optimizer.step()
        for i, grad in enumerate(grads(step)):
            if grad is None:
                continue
            d = grad + wd * want[i]
            if want[i].norm() > 0 and d.norm() > 0 and not (exclude and want[i].ndim == 1):
                d = d * 0.02 * want[i].norm() / d.norm()
            moments[i] = 0.6 * moments[i] + d
            want[i] = want[i] - 0.3 * moments[i]
        for parameter, value, grad in zip(ours, want, grads(step), strict=True):
            torch.testing.assert_close(parameter.detach(), value, rtol=1e-12, atol=1e-12)
            assert grad is None or torch.equal(parameter.grad if parameter.grad is not None else grad, grad)


def test_state_goes_on_where_it_was_saved() -> None:
    first, second = params(), params()
    one, other = LARS(rate=Rate(lr=0.3))(nn.ParameterList(first)), LARS(rate=Rate(lr=0.3))(nn.ParameterList(second))
    for step, (optimizer, tensors) in enumerate([(one, first), (one, first)]):
        for parameter, grad in zip(tensors, grads(step), strict=True):
            parameter.grad = grad
        optimizer.step()
    for mine, theirs in zip(second, first, strict=True):
        mine.data.copy_(theirs.data)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for optimizer, tensors in ((one, first), (other, second)):
        for parameter, grad in zip(tensors, grads(2), strict=True):
            parameter.grad = grad
        optimizer.step()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, second, strict=True))


def test_a_closure_is_called_with_gradients() -> None:
    p = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS(rate=Rate(lr=0.1))(nn.ParameterList([p]))

    def closure() -> float:
        loss = (p**2).sum()
        torch.autograd.backward(loss)
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert not torch.equal(p.detach(), torch.ones(2, 2))


def test_larc_on_top_is_a_problem() -> None:
    (problem,) = LARS.problems(LARSConf(rate=RateConf(lr=0.1), larc=LARCConf()), FACTS)
    assert problem.path == "larc"
    assert not list(LARS.problems(LARSConf(rate=RateConf(lr=0.1)), FACTS))

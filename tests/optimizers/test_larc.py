"""LARC against the formula in plain steps, on any optimizer, and its weight decay when a step fails."""

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.optimizers.larc import LARC


def params() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2, 2, 3), (4,)]
    found = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]
    for parameter in found:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    found[1].data.zero_()
    found[3].grad = torch.zeros_like(found[3])
    return found


def plain(p: Tensor, g: Tensor, lr: float, wd: float, larc: LARC) -> Tensor:
    """The equations of the docstring for one tensor."""
    if p.norm() == 0 or g.norm() == 0:
        return g
    a = larc.trust_coefficient * p.norm() / (g.norm() + wd * p.norm() + larc.eps)
    a = torch.minimum(a / lr, torch.ones_like(a)) if larc.clip else a
    return a * (g + wd * p)


@pytest.mark.parametrize("wd", [0.0, 0.1])
@pytest.mark.parametrize(
    "larc", [LARC(), LARC(clip=True, trust_coefficient=0.1), LARC(eps=0.5)], ids=["", "clip", "eps"]
)
def test_step_is_that_of_the_rescaled_gradients(larc: LARC, wd: float) -> None:
    ours, reference = params(), params()
    optimizer = torch.optim.SGD(ours, lr=0.3, weight_decay=wd)
    larc.attach(optimizer)
    optimizer.step()
    for p, q in zip(ours, reference, strict=True):
        assert q.grad is not None
        torch.testing.assert_close(p.data, q.data - 0.3 * plain(q.data, q.grad, 0.3, wd, larc), rtol=1e-12, atol=1e-14)
    assert optimizer.param_groups[0]["weight_decay"] == wd


def test_parameters_without_gradient_stay() -> None:
    ours = params()
    ours[0].grad = None
    before = ours[0].clone()
    optimizer = torch.optim.SGD([{"params": ours[:1]}, {"params": ours[1:]}], lr=0.3, weight_decay=0.1)
    LARC().attach(optimizer)
    optimizer.step()
    assert torch.equal(ours[0], before)


def test_weight_decay_comes_back_after_a_step_that_raised() -> None:
    ours = params()
    optimizer = torch.optim.SGD(ours, lr=0.3, weight_decay=0.1)
    LARC().attach(optimizer)

    def fails() -> float:
        raise RuntimeError("no loss today")

    with pytest.raises(RuntimeError, match="today"):
        optimizer.step(fails)
    optimizer.step()
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_state_dict_holds_the_real_weight_decay() -> None:
    optimizer = torch.optim.SGD(params(), lr=0.3, weight_decay=0.1, momentum=0.9)
    LARC().attach(optimizer)
    optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["weight_decay"] == 0.1


def on_shards(parts: list[list[Tensor]], gradients: list[list[Tensor]], wd: float) -> list[Tensor]:
    ours = [nn.Parameter(part.clone()) for part in parts[distributed.rank()]]
    optimizer = torch.optim.SGD(ours, lr=0.3, weight_decay=wd)
    LARC(trust_coefficient=0.02).attach(optimizer, sharded=True)
    for parameter, grad in zip(ours, gradients[distributed.rank()], strict=True):
        parameter.grad = grad.clone()
    optimizer.step()
    return [parameter.detach() for parameter in ours]


def test_shards_step_as_the_whole() -> None:
    """Tensors cut unevenly over two ranks, one of them with nothing for the second rank."""
    whole = params()
    cuts = [2, 5, 1, 4]
    parts = [[p.detach()[:cut] for p, cut in zip(whole, cuts, strict=True)]]
    parts.append([p.detach()[cut:] for p, cut in zip(whole, cuts, strict=True)])
    given = [parameter.grad for parameter in whole if parameter.grad is not None]
    gradients = [
        [g[:cut] for g, cut in zip(given, cuts, strict=True)],
        [g[cut:] for g, cut in zip(given, cuts, strict=True)],
    ]
    first, second = run_on_ranks(on_shards, 2, parts, gradients, 0.1)
    optimizer = torch.optim.SGD(whole, lr=0.3, weight_decay=0.1)
    LARC(trust_coefficient=0.02).attach(optimizer)
    optimizer.step()
    for a, b, want in zip(first, second, whole, strict=True):
        torch.testing.assert_close(torch.cat([a, b]), want.detach(), rtol=1e-12, atol=1e-12)


def test_before_adam_only_eps_and_changes_of_the_rate_count() -> None:
    ours, theirs = params(), params()
    with_larc, without = torch.optim.Adam(ours, lr=0.1, eps=0.0), torch.optim.Adam(theirs, lr=0.1, eps=0.0)
    LARC().attach(with_larc)
    with_larc.step()
    without.step()
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(mine, other)

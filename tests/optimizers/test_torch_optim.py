"""The optimizers of torch.optim: the equations of their docstrings, with each option; any other one by its name."""

import re

import pytest
import torch
from facts import FACTS
from torch import nn

from ssltyped.config import build
from ssltyped.optimizers.groups import GroupConf
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate, RateConf
from ssltyped.optimizers.torch_optim import (
    SGD,
    Adam,
    AdamW,
    RMSprop,
    SGDConf,
    TorchOptimizer,
    TorchOptimizerConf,
    _classes,
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
    adam = AdamW(rate=Rate(lr=0.1), betas=(0.5, 0.8), eps=0.01, amsgrad=amsgrad, weight_decay=0.2)
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


NAMES = [
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
]


def test_every_class_of_torch_that_is_offered_trains_any_shape() -> None:
    """A bias and a convolution, too."""
    for name in _classes():
        module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2, 1))
        optimizer = TorchOptimizer(rate=Rate(lr=0.1), name=name)(module)
        module(torch.ones(3, 1, 1, 1)).sum().backward()
        optimizer.step()
    assert set(NAMES) <= set(_classes())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_torch_s(name: str) -> None:
    ours, theirs = (nn.Parameter(torch.tensor([[1.0, -2.0]])) for _ in range(2))
    mine = build(TorchOptimizerConf(rate=RateConf(lr=0.1), name=name))(nn.ParameterList([ours]))
    reference = getattr(torch.optim, name)([theirs], lr=0.1)
    if "weight_decay" in reference.param_groups[0]:  # AdamW's default is not ours
        reference.param_groups[0]["weight_decay"] = 0.0
    for optimizer, parameter in ((mine, ours), (reference, theirs)):
        for _ in range(3):
            parameter.grad = parameter.detach() * 0.3
            optimizer.step()
    assert type(mine) is type(reference)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours.detach(), torch.tensor([[1.0, -2.0]]))


def test_arguments_and_groups_arrive() -> None:
    adagrad = TorchOptimizer(rate=Rate(lr=0.1), name="Adagrad", args={"lr_decay": 0.2, "eps": 1e-3}, weight_decay=0.3)
    optimizer = adagrad(nn.Linear(2, 2))
    (group,) = optimizer.param_groups
    assert (group["lr_decay"], group["eps"], group["weight_decay"], group["lr_scale"]) == (0.2, 1e-3, 0.3, 1.0)


def test_a_group_has_no_weight_decay_either_where_there_is_none() -> None:
    decayed = TorchOptimizerConf(rate=RateConf(lr=0.1), name="Rprop", groups=[GroupConf(parts=["0"], weight_decay=0.1)])
    assert [problem.path for problem in TorchOptimizer.problems(decayed, FACTS)] == ["weight_decay"]
    scaled = TorchOptimizerConf(rate=RateConf(lr=0.1), name="Rprop", groups=[GroupConf(parts=["0"], lr_scale=2.0)])
    groups = build(scaled)(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))).param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("decay", 0.1), ("0.decay", 0.2)]


def test_larc_before_it() -> None:
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = TorchOptimizer(rate=Rate(lr=1.0), name="SGD", larc=LARC(trust_coefficient=0.1))(nn.ParameterList([p]))
    p.grad = torch.tensor([100.0, 0.0])
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.tensor([2.5, 4.0]))


@pytest.mark.parametrize(
    "config, path, text",
    [
        (TorchOptimizerConf(rate=RateConf(lr=0.1), name="Adagard"), "name", "did you mean 'Adagrad'"),
        (TorchOptimizerConf(rate=RateConf(lr=0.1), name="LBFGS"), "name", "no 'LBFGS' that works here"),
        (TorchOptimizerConf(rate=RateConf(lr=0.1), name="Muon"), "name", "no 'Muon' that works here"),
        (
            TorchOptimizerConf(rate=RateConf(lr=0.1), name="Adagrad", args={"lr_deacy": 0.1}),
            "args.lr_deacy",
            "did you mean 'lr_decay'",
        ),
        (
            TorchOptimizerConf(rate=RateConf(lr=0.1), name="Adagrad", args={"lr": 0.1}),
            "args.lr",
            "a field of the optimizer itself",
        ),
        (TorchOptimizerConf(rate=RateConf(lr=0.1), name="Adagrad", args={"eps": -1.0}), "args", "Invalid epsilon"),
        (
            TorchOptimizerConf(rate=RateConf(lr=0.1), name="NAdam", args={"betas": 0.9}),
            "args",
            "NAdam refuses {'betas': 0.9}",
        ),
        (TorchOptimizerConf(rate=RateConf(lr=0.1), name="Rprop", weight_decay=0.1), "weight_decay", "Rprop has none"),
    ],
)
def test_problems(config: TorchOptimizer, path: str, text: str) -> None:
    (problem,) = TorchOptimizer.problems(config, FACTS)
    assert problem.path == path
    assert text in problem.message
    with pytest.raises(ValueError, match=re.escape(problem.message)):
        TorchOptimizer(rate=Rate(lr=0.1), name=config.name, args=config.args, weight_decay=config.weight_decay)

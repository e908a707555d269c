"""TorchOptimizer: every class of torch.optim, and arguments that it does not take."""

import re

import pytest
import torch
from facts import FACTS
from torch import nn

from ssltyped.config import build
from ssltyped.optimizers.by_name import TorchOptimizer, TorchOptimizerConf, _classes
from ssltyped.optimizers.groups import GroupConf
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate, RateConf

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

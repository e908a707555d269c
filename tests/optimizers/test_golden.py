"""Recorded steps: SGD with and without LARC, and AdamW, over groups with schedules of their own."""

import math
from dataclasses import dataclass

import pytest
import torch
from golden_cases import load_cases, load_tensors, sequence
from torch import nn

from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.decay import Decay
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.torch_optim import SGD, AdamW


@dataclass
class LarcOptions:
    clip: bool
    trust_coefficient: float
    eps: float


@dataclass
class Options:
    name: str
    momentum: float = 0.0
    nesterov: bool = False
    use_larc: bool = False
    larc_config: LarcOptions | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False


@dataclass
class Curve:
    start_value: float
    end_value: float

    def at(self, progress: float) -> float:
        return self.end_value + (self.start_value - self.end_value) * (1 + math.cos(math.pi * progress)) / 2


@dataclass
class Group:
    params: list[int]
    lr: float | Curve
    weight_decay: float

    def lr_at(self, progress: float) -> float:
        return self.lr if isinstance(self.lr, float) else self.lr.at(progress)


@dataclass
class Case:
    id: str
    config: Options
    param_groups: list[Group]
    where_per_step: list[float]
    rtol: float
    atol: float


def component(options: Options) -> GroupedOptimizer:
    if options.name == "adamw":
        return AdamW(rate=Rate(lr=0.1), betas=options.betas, eps=options.eps, amsgrad=options.amsgrad, decay=Decay())
    assert options.larc_config is not None
    larc = options.larc_config
    attached = LARC(trust_coefficient=larc.trust_coefficient, clip=larc.clip, eps=larc.eps)
    return SGD(
        rate=Rate(lr=0.1),
        momentum=options.momentum,
        nesterov=options.nesterov,
        larc=attached if options.use_larc else None,
    )


def regrouped(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], groups: list[Group]) -> None:
    """The recorded groups in the place of ours, so that what is compared is the arithmetic of a step."""
    (only,) = optimizer.param_groups
    optimizer.param_groups = [
        {**only, "params": [params[i] for i in group.params], "weight_decay": group.weight_decay} for group in groups
    ]


@pytest.mark.parametrize("case", load_cases("optim", Case), ids=lambda case: case.id)
def test_parameters_after_each_step_are_those_recorded(case: Case) -> None:
    golden = load_tensors("optim")
    params = [nn.Parameter(x.clone()) for x in sequence(golden, f"{case.id}/in/params")]
    optimizer = component(case.config)(nn.ParameterList(params))
    regrouped(optimizer, params, case.param_groups)
    for step, progress in enumerate(case.where_per_step):
        for group, recorded in zip(optimizer.param_groups, case.param_groups, strict=True):
            group["lr"] = recorded.lr_at(progress)
        for parameter, grad in zip(params, sequence(golden, f"{case.id}/in/grads/{step}"), strict=True):
            parameter.grad = grad.clone()
        optimizer.step()
        for parameter, want in zip(params, sequence(golden, f"{case.id}/out/params_after_step{step}"), strict=True):
            torch.testing.assert_close(parameter.detach(), want, rtol=case.rtol, atol=case.atol)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [
            g.weight_decay for g in case.param_groups
        ]

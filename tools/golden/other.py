"""Recorded schedules, optimizers and operations over ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional, Union

import torch
from torch import Tensor, nn

from ssltyped import config, distributed
from ssltyped.config import INFERRED
from ssltyped.config.resolve import resolve
from ssltyped.losses.barlow_twins import standardized
from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.decay import Decay
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.lars import LARS
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.torch_optim import SGD, Adam, AdamW, RMSprop
from ssltyped.schedulers.composite import Composite, Interval
from ssltyped.schedulers.cosine import Cosine, CosineWarmRestarts, Wave
from ssltyped.schedulers.curves import Constant, InverseSqrt, Linear, Polynomial
from ssltyped.schedulers.steps import MultiStepConf, PiecewiseConstant, Staircase
from ssltyped.types import Facts, Scheduler, Update
from tools.golden.arrays import Adapter, Bug, Case, Inputs, Tree, read_params
from tools.golden.given import grad_of, leaf

FACTS = Facts(
    world_size=1,
    ranks_per_node=1,
    batch_size=1,
    accumulation=1,
    num_views=1,
    crop_sizes=(1,),
    feature_dims={},
)


@dataclass
class Curve:
    """A schedule as VISSL writes it."""

    name: str
    value: float = 0.0
    base_value: float = 0.0
    start_value: float = 0.0
    end_value: float = 0.0
    power: float = 1.0
    gamma: float = 1.0
    num_decays: int = 0
    warmup_interval_length: float = 0.0
    restart_interval_length: float = 1.0
    wave_type: Wave = Wave.HALF
    lr_multiplier: float = 1.0
    is_adaptive: bool = False
    values: list[float] = field(default_factory=list)
    milestones: Optional[list[int]] = None
    num_epochs: int = 1
    schedulers: list[Curve] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    interval_scaling: list[Interval] = field(default_factory=list)
    update_interval: Optional[Update] = None


def schedule(curve: Curve) -> Scheduler:
    """Ours of the same name."""
    epoch, step = curve.update_interval or Update.EPOCH, curve.update_interval or Update.STEP
    builders: Mapping[str, Callable[[], Scheduler]] = {
        "constant": lambda: Constant(value=curve.value, update=epoch),
        "cosine": lambda: Cosine(start=curve.start_value, end=curve.end_value, update=step),
        "linear": lambda: Linear(start=curve.start_value, end=curve.end_value, update=step),
        "polynomial": lambda: Polynomial(start=curve.base_value, power=curve.power, update=step),
        "step": lambda: PiecewiseConstant(values=curve.values, update=epoch),
        "step_with_fixed_gamma": lambda: Staircase(
            start=curve.base_value, gamma=curve.gamma, num_decays=curve.num_decays, update=step
        ),
        "inverse_sqrt": lambda: InverseSqrt(start=curve.start_value, warmup=curve.warmup_interval_length, update=step),
        "multistep": lambda: multistep(curve, epoch),
        "cosine_warm_restart": lambda: restarts(curve, step),
        "composite": lambda: Composite(
            schedulers=[schedule(part) for part in curve.schedulers],
            lengths=curve.lengths,
            intervals=curve.interval_scaling or [Interval.RESCALED] * len(curve.schedulers),
            update=step,
        ),
    }
    return builders[curve.name]()


def multistep(curve: Curve, update: Update) -> Scheduler:
    """Milestones that are not given are inferred."""
    milestones = INFERRED if curve.milestones is None else curve.milestones
    asked = MultiStepConf(values=curve.values, milestones=milestones, epochs=curve.num_epochs, update=update)
    return config.build(resolve(asked, lambda _: FACTS).config)


def restarts(curve: Curve, update: Update) -> Scheduler:
    return CosineWarmRestarts(
        start=curve.start_value,
        end=curve.end_value,
        interval=curve.restart_interval_length,
        wave=curve.wave_type,
        gamma=curve.lr_multiplier,
        adaptive=curve.is_adaptive,
        update=update,
    )


def param_scheduler(case: Case, x: Inputs) -> Mapping[str, Tree]:
    ours = schedule(read_params(case, Curve))
    values = [ours(float(point)) for point in x.tensor("where")]
    return {"values": torch.tensor(values, dtype=torch.float64), "update_interval": ours.update.value}


@dataclass
class LarcOptions:
    clip: bool
    trust_coefficient: float
    eps: float


@dataclass
class Options:
    """An optimizer as VISSL writes it."""

    name: str
    momentum: float = 0.0
    nesterov: bool = False
    use_larc: bool = False
    larc_config: Optional[LarcOptions] = None
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    eta: float = 0.001
    exclude_bias_and_norm: bool = False
    alpha: float = 0.99
    centered: bool = False


@dataclass
class Group:
    params: list[int]
    lr: Union[float, Curve]
    weight_decay: float

    def lr_at(self, progress: float) -> float:
        return schedule(self.lr)(progress) if isinstance(self.lr, Curve) else self.lr


@dataclass
class Steps:
    config: Options
    param_groups: list[Group]
    where_per_step: list[float]


def optimizer_of(options: Options) -> GroupedOptimizer:
    """Ours of the same name."""
    larc = options.larc_config
    attached = None
    if options.use_larc and larc is not None:
        attached = LARC(trust_coefficient=larc.trust_coefficient, clip=larc.clip, eps=larc.eps)
    rate = Rate(lr=0.1)
    builders: Mapping[str, Callable[[], GroupedOptimizer]] = {
        "sgd": lambda: SGD(rate=rate, momentum=options.momentum, nesterov=options.nesterov, larc=attached),
        "lars": lambda: LARS(
            rate=rate,
            momentum=options.momentum,
            eta=options.eta,
            exclude_bias_and_norm=options.exclude_bias_and_norm,
            decay=Decay(),
        ),
        "adam": lambda: Adam(rate=rate, betas=options.betas, eps=options.eps, amsgrad=options.amsgrad),
        "adamw": lambda: AdamW(rate=rate, betas=options.betas, eps=options.eps, amsgrad=options.amsgrad, decay=Decay()),
        "rmsprop": lambda: RMSprop(
            rate=rate, alpha=options.alpha, eps=options.eps, momentum=options.momentum, centered=options.centered
        ),
    }
    return builders[options.name]()


def optimizer(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """The recorded groups take the place of ours, so that what is compared is the arithmetic of a step."""
    steps = read_params(case, Steps)
    params = [nn.Parameter(value.clone()) for value in x.tensors("params")]
    ours = optimizer_of(steps.config)(nn.ParameterList(params))
    only = ours.param_groups[0]
    ours.param_groups = [
        {**only, "params": [params[i] for i in group.params], "weight_decay": group.weight_decay}
        for group in steps.param_groups
    ]
    found: dict[str, Tree] = {}
    for number, (progress, grads) in enumerate(zip(steps.where_per_step, x.items("grads"), strict=True)):
        for group, recorded in zip(ours.param_groups, steps.param_groups, strict=True):
            group["lr"] = recorded.lr_at(progress)
        found[f"params_after_step{number}"] = stepped(ours, params, grads)
    return found


def stepped(ours: torch.optim.Optimizer, params: Sequence[nn.Parameter], grads: Tree) -> list[Tensor]:
    """The parameters after one step with these gradients."""
    assert isinstance(grads, list)
    for parameter, grad in zip(params, grads, strict=True):
        parameter.grad = grad.clone()
    ours.step()
    return [parameter.detach().clone() for parameter in params]


@dataclass
class Sharded:
    lr: float
    weight_decay: float
    larc_config: LarcOptions
    momentum: float = 0.9


def larc_sharded(case: Case, x: Inputs) -> Mapping[str, Tree]:
    sharded = read_params(case, Sharded)
    larc = sharded.larc_config
    params = [nn.Parameter(value.clone()) for value in x.tensors("params")]
    sgd = torch.optim.SGD(params, lr=sharded.lr, momentum=sharded.momentum, weight_decay=sharded.weight_decay)
    LARC(trust_coefficient=larc.trust_coefficient, clip=larc.clip, eps=larc.eps).attach(sgd, sharded=True)
    return {f"params_after_step{number}": stepped(sgd, params, grads) for number, grads in enumerate(x.items("grads"))}


@dataclass
class Eps:
    eps: float = 1e-5


def sync_normalize(case: Case, x: Inputs) -> Mapping[str, Tree]:
    eps = read_params(case, Eps).eps
    return weighed(x, lambda rows: standardized(rows, eps))


def gather_from_all(case: Case, x: Inputs) -> Mapping[str, Tree]:
    return weighed(x, distributed.gather)


def weighed(x: Inputs, operation: Callable[[Tensor], Tensor]) -> Mapping[str, Tree]:
    """y and the gradient of the sum of y w over all ranks."""
    rows = leaf(x.tensor("x"))
    y = operation(rows)
    torch.autograd.backward((y * x.tensor("w")).sum())
    return {"y": y, "grad_x": grad_of(rows)}


ADAPTERS: Mapping[str, Adapter] = {
    "param_scheduler": param_scheduler,
    "optimizer": optimizer,
    "distributed_op/SyncNormalizeFunction": sync_normalize,
    "distributed_op/gather_from_all": gather_from_all,
    "distributed_op/larc_fsdp_distributed": larc_sharded,
}

BUGS: Mapping[str, Sequence[Bug]] = {}

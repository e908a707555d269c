"""The same trunk, head, images, views and steps as a small recipe's, trained by lightly's loss in a plain loop."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ssltyped import build, part
from ssltyped.data.pipeline import TrainPipeline
from ssltyped.engine.strategy import Strategy
from ssltyped.experiment import Experiment, build_module
from ssltyped.heads.prototypes import PrototypeScores
from ssltyped.losses.barlow_twins import BarlowTwinsLoss
from ssltyped.losses.dino import DINOLoss
from ssltyped.losses.moco import MoCoLoss
from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.losses.swav import SwAVLoss
from ssltyped.losses.teacher import cosine_momentum
from ssltyped.model.model import SSLModel
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.torch_optim import AdamW
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Loss, Moment, Trunk

VERSION = "1.6.0"
FOLDER = Path(f"runs/board/lightly-{VERSION}")
"""Where lightly is installed to, beside our environment and not in it."""

Views = tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained trunk and what that took, here and in `board_runs`.

    Args:
        steps: that were trained.
        cpu_s: of this process.
        steps_per_s: the median over stretches of the run.
        warnings: what was said meanwhile that begins so.
    """

    trunk: Trunk
    steps: int
    cpu_s: float
    steps_per_s: float
    warnings: tuple[str, ...] = ()


def install() -> None:
    """lightly without what it depends on, most of which its losses do not need and the rest is here."""
    if not (FOLDER / "lightly" / "loss").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER)]
        subprocess.run([*command, f"lightly=={VERSION}"], check=True)


def train(method: str, recipe: Experiment) -> Trained:
    """AdamW without decay of biases and norms, a tenth of the run for warmup, then half a cosine: as the recipe."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))  # before any other lightly
    started = time.process_time()
    resolved = resolve_experiment(recipe)
    torch.manual_seed(recipe.seed)
    parts = build(resolved.config)
    module, _ = build_module(parts, resolved.facts, Strategy(torch.device("cpu")))
    model, steps = module.model, parts.steps
    assert isinstance(model, SSLModel)
    assert steps is not None
    plain = METHOD[method](module.loss, model)
    settings = part(resolved.config.optimizer, AdamW)
    lr, decay = part(settings.rate, Rate).lr, settings.weight_decay
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps / 10, steps))
    model.train()
    ends = [time.perf_counter()]
    with TrainPipeline(split=parts.data.train, seed=recipe.seed) as batches:
        for step in range(steps):
            views = parts.data.normalize(next(batches)).views
            loss = plain.step(views, Moment(step, steps, resolved.facts.steps_per_epoch or steps))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            ends.append(time.perf_counter())
    plain.product.eval()
    every = recipe.log_every
    rates = [every / (ends[end] - ends[end - every]) for end in range(every, len(ends), every)]
    rate = statistics.median(rates or [steps / (ends[-1] - ends[0])])
    return Trained(plain.product.trunk, steps, time.process_time() - started, rate)


def _rate(step: int, warmup: float, steps: int) -> float:
    """The factor of the peak's rate."""
    if step < warmup:
        return step / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


@dataclasses.dataclass(frozen=True)
class Plain:
    """A method: the loss of a step, and the model that it is for, as ours has it."""

    step: Callable[[Views, Moment], Tensor]
    product: SSLModel


def _theirs(name: str, **settings: object) -> Callable[..., Tensor]:
    """A loss of lightly's, which is installed while the board is made and so is not known to the type checker."""
    made: Callable[..., Tensor] = getattr(importlib.import_module("lightly.loss"), name)(**settings)
    return made


def _both(model: SSLModel, views: Views) -> tuple[Tensor, ...]:
    """Of each view the last output of the head: SwAV's scores come after its embedding."""
    (head,) = model.heads
    of_views: tuple[Tensor, ...] = model(views).all_of(head)[-1].chunk(len(views))
    return of_views


def _simclr(loss: Loss, model: SSLModel) -> Plain:
    assert isinstance(loss, SimCLRLoss)
    theirs = _theirs("NTXentLoss", temperature=loss.temperature)
    return Plain(lambda views, _: theirs(*_both(model, views)), model)


def _barlow_twins(loss: Loss, model: SSLModel) -> Plain:
    assert isinstance(loss, BarlowTwinsLoss)
    theirs = _theirs("BarlowTwinsLoss", lambda_param=loss.lambda_off)
    return Plain(lambda views, _: theirs(*_both(model, views)), model)


def _moco(loss: Loss, model: SSLModel) -> Plain:
    assert isinstance(loss, MoCoLoss)
    momentum, teacher = loss.momentum, _Teacher(model)
    theirs = _theirs("NTXentLoss", temperature=loss.temperature, memory_bank_size=tuple(loss.queue.shape))

    def step(views: Views, moment: Moment) -> Tensor:
        teacher.follow(model, momentum)
        return theirs(*_both(model, views[:1]), *teacher(views[1:]))

    return Plain(step, model)


def _dino(loss: Loss, model: SSLModel) -> Plain:
    assert isinstance(loss, DINOLoss)
    teacher = _Teacher(model)
    theirs = _theirs(
        "DINOLoss",
        output_dim=loss.num_prototypes,
        student_temp=loss.student_temperature,
        center_momentum=loss.center_momentum,
    )

    def step(views: Views, moment: Moment) -> Tensor:
        teacher.follow(model, cosine_momentum(loss.momentum, moment.progress))
        temperature = loss.temperature(moment)
        return theirs(list(teacher(views)), list(_both(model, views)), teacher_temp=temperature)

    return Plain(step, teacher.model)


def _swav(loss: Loss, model: SSLModel) -> Plain:
    assert isinstance(loss, SwAVLoss)
    theirs = _theirs("SwaVLoss", temperature=loss.temperature, sinkhorn_epsilon=loss.epsilon)
    (head,) = model.heads.values()
    assert isinstance(head, PrototypeScores)

    def step(views: Views, moment: Moment) -> Tensor:
        head.normalize_prototypes()
        return theirs(list(_both(model, views)), [])

    return Plain(step, model)


class _Teacher:
    """An average of the student, with the statistics of its own batch, as lightly's examples have it."""

    def __init__(self, student: SSLModel) -> None:
        self.model = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def follow(self, student: SSLModel, momentum: float) -> None:
        for own, other in zip(self.model.parameters(), student.parameters(), strict=True):
            own.lerp_(other, 1 - momentum)

    @torch.no_grad()
    def __call__(self, views: Views) -> tuple[Tensor, ...]:
        return _both(self.model, views)


METHOD = {"simclr": _simclr, "moco": _moco, "swav": _swav, "dino": _dino, "barlow_twins": _barlow_twins}

"""The root of every recipe, and the one place where the parts meet."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Optional, Self

import torch
from annotated_types import Ge, Gt, Lt
from torch import nn

from ssltyped import config
from ssltyped.config import INFERRED, ConfigError, any_says, config_for, part_of
from ssltyped.config.hints import nearest
from ssltyped.config.resolve import inferred_below
from ssltyped.data.pipeline import Data
from ssltyped.engine.checkpoint import Checkpoints
from ssltyped.engine.names import name_faults
from ssltyped.engine.parallel import Distributed, Precision, say
from ssltyped.engine.position import Position
from ssltyped.engine.step import Step
from ssltyped.engine.strategy import Product, StepModule, Strategy, strategy_for
from ssltyped.engine.trainer import Trainer
from ssltyped.model.freeze import Freeze, Frozen, for_ever, hold, never_learns
from ssltyped.model.model import Passes, SSLModel, inferred_reads, wrong_inputs
from ssltyped.optimizers.schedules import lr_problems, lr_warnings
from ssltyped.types import (
    Callback,
    Component,
    Facts,
    Head,
    Inference,
    Loss,
    Optimizer,
    Problem,
    Scheduler,
    Trunk,
    can_be_named,
)
from ssltyped.weights.load import Load, LoadReport, start_from


class Experiment(Component):
    """One training: the parts and how long they train together.

    Args:
        trunk: images to features.
        heads: what reads the trunk, by name; a head says itself which feature of which input it reads.
        loss: the method.
        data: what is read, how it is augmented, in which batches.
        optimizer: how the weights move.
        schedule: the learning rate over the run.
        epochs: passes over the images; give this or steps.
        steps: optimizer steps; give this or epochs.
        passes: what goes through the trunk at once: all consecutive views of one size, or each view alone; apart:
            through the heads too; null: apart if the method is defined view by view, else size.
        freeze: parts that do not learn, for ever or for a while.
        global_batch_size: images per optimizer step over all ranks; follows from batch_size, ranks and accumulation.
        accumulation: batches of a rank per optimizer step; a method that compares images of a batch refuses several.
        precision: what the forward pass computes in.
        grad_clip: largest norm of the gradient; null: not clipped.
        distributed: processes and devices.
        checkpoints: when state is saved.
        callbacks: what watches the run.
        init: weights that parts of the model, or of the method, start from.
        product: which model is evaluated and saved: that which the method is for, or the student in any case.
        compiled: the trunk is compiled by torch.compile; the first step takes minutes, the others less time.
        seed: of the initial weights, the order of the images and their augmentation.
        log_every: steps between two logged lines.
        output: folder of all runs.
        name: folder of this run in output; null: the name of the recipe.
        resume: auto: go on from the run's newest checkpoint; never: start in a new folder; or the path of a checkpoint.
    """

    def __init__(
        self,
        *,
        trunk: Trunk,
        heads: dict[str, Head],
        loss: Loss,
        data: Data,
        optimizer: Optimizer,
        schedule: Scheduler,
        epochs: Optional[Annotated[int, Gt(0)]] = None,
        steps: Optional[Annotated[int, Gt(0)]] = None,
        passes: Optional[Passes] = None,
        freeze: list[Freeze] = [],  # noqa: B006  # never changed; a config shows it as a list
        global_batch_size: Annotated[int, Gt(0)] = INFERRED,
        accumulation: Annotated[int, Gt(0)] = 1,
        precision: Precision = Precision.FP32,
        grad_clip: Optional[Annotated[float, Gt(0)]] = None,
        distributed: Distributed,
        checkpoints: Checkpoints,
        callbacks: list[Callback],
        init: list[Load] = [],  # noqa: B006  # as freeze
        product: Product = Product.METHOD,
        compiled: bool = False,
        seed: Annotated[int, Ge(0), Lt(2**63)] = 0,
        log_every: Annotated[int, Gt(0)] = 10,
        output: Path = Path("runs"),
        name: Optional[str] = None,
        resume: str = "auto",
    ) -> None:
        self.trunk, self.heads, self.loss, self.data, self.optimizer = trunk, heads, loss, data, optimizer
        self.schedule, self.epochs, self.steps, self.passes, self.freeze = schedule, epochs, steps, passes, freeze
        self.init, self.product, self.compiled, self.global_batch_size = init, product, compiled, global_batch_size
        self.accumulation, self.precision, self.grad_clip = accumulation, precision, grad_clip
        self.distributed, self.checkpoints, self.callbacks, self.seed = distributed, checkpoints, callbacks, seed
        self.log_every, self.output, self.name, self.resume = log_every, output, name, resume

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        ranks = f"{facts.world_size} rank" + "s" * (facts.world_size > 1)
        rule = f"{facts.batch_size} images a rank x {ranks}" + f" x {facts.accumulation} batches" * (
            facts.accumulation > 1
        )
        yield Inference("global_batch_size", facts.global_batch_size, rule)
        if per_epoch := facts.steps_per_epoch:
            images = f"{facts.num_images} images / {facts.global_batch_size} a step = {per_epoch} steps an epoch"
            if config.steps is not None:
                rule = f"{config.steps} steps ({images}); a begun epoch counts"
                yield Inference("epochs", -(-config.steps // per_epoch), rule, source="steps")
            elif config.epochs is not None:
                yield Inference("steps", config.epochs * per_epoch, f"{config.epochs} epochs x {per_epoch} ({images})")
        yield from inferred_reads(config.heads, facts.feature_dims, "the trunk")
        if any_says(config.loss, "views_apart"):
            rule = f"{part_of(config.loss).name} is defined view by view"
            yield Inference("passes", Passes.APART, rule, default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        names = list(facts.feature_dims)
        for name, head in config.heads.items():
            feature = getattr(head, "feature", None)
            if feature is not None and feature not in names:
                yield Problem(f"heads.{name}.feature", f"the trunk has no feature {feature!r}{nearest(feature, names)}")
            if not can_be_named(name):
                yield Problem(f"heads.{name}", "a head's name is made of letters, digits and _; ModuleDict's are taken")
        read = {name: getattr(head, "input", None) for name, head in config.heads.items()}
        yield from (Problem(path, wrong) for path, wrong in wrong_inputs(read, facts.inputs))
        if not config.heads:
            yield Problem("heads", "at least one is needed: the loss reads the output of a head (IdentityHead is one)")
        if any(facts.mask_grids) and not any_says(config.loss, "takes_masks"):
            yield Problem("data.train.views", f"makes masks, and {part_of(config.loss).name} uses none")
        if facts.unmatched:
            yield Problem("data.val", f"{facts.unmatched}; data.val.source=FlatFolder reads images without labels")
        if facts.steps_per_epoch == 0:
            need = f"{facts.global_batch_size} images make one step, and data.train has {facts.num_images}"
            yield Problem("data.train.batch_size", f"{need}: use a smaller batch")
        if config.epochs is None and config.steps is None:
            yield Problem("epochs", "give epochs or steps")
        yield from (Problem("name", fault) for fault in name_faults(config.name))
        yield from lr_problems(config.optimizer, config.schedule, facts, inferred_below(config, "schedule"))

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from lr_warnings(config.schedule, facts)
        yield from never_learns(config.freeze, bool(config.init))


ExperimentConf = config_for(Experiment)


def build_model(built: Experiment, facts: Facts) -> SSLModel:
    """Trunk and heads of a built experiment, wired."""
    return SSLModel(
        trunk=built.trunk,
        heads=built.heads,
        views_of=facts.inputs,
        passes=built.passes or Passes.SIZE,
        frozen=for_ever(built.freeze),
        extra=list(dict.fromkeys(name for callback in built.callbacks for name in callback.reads)),
    )


def build_module(
    built: Experiment, facts: Facts, strategy: Strategy, *, starts: bool = False
) -> tuple[StepModule, list[LoadReport]]:
    """Model and loss of a built experiment; `starts`: from the weights in `init`, with an account of what they filled.

    The model has its weights before the method sets itself up, so that a teacher starts from them too. Raises
    `ConfigError` for weights that do not fit, and if no parameter learns.
    """
    model = build_model(built, facts)
    init = built.init if starts else []
    reports = start_from(init, model, of_loss=False)
    module = strategy.prepare(model, built.loss)
    reports += start_from(init, module, of_loss=True)
    hold(module, for_ever(built.freeze, of_loss=True))
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError([Problem("freeze", "nothing is left that learns: leave a part of the model out of it")])
    return module, reports


def build_optimizer(built: Experiment, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over a module's parameters. Raises `ConfigError` for what it cannot be with these."""
    try:
        return built.optimizer(module)
    except (TypeError, ValueError) as error:
        raise ConfigError([Problem("optimizer", str(error))]) from error


def build_trainer(
    resolved: Experiment, *, device: torch.device, folder: Path, facts: Facts, starts: bool = True
) -> Trainer:
    """The objects of a resolved recipe, wired together, the same on every rank.

    `starts`: the model starts from the weights in `init`, which is said; a run that goes on has its own.
    """
    torch.manual_seed(resolved.seed)
    built = config.build(resolved)
    assert built.steps is not None
    strategy = strategy_for(device, sync_bn_group=built.distributed.sync_bn_group, compiled=built.compiled)
    module, reports = build_module(built, facts, strategy, starts=starts)
    for line in (*built.data.remarks(), *(f"starts with {report}" for report in reports)):
        say(line)
    step = Step(
        module=module,
        strategy=strategy,
        optimizer=build_optimizer(built, module),
        precision=built.precision,
        grad_clip=built.grad_clip,
        frozen=Frozen(module, built.freeze),
    )
    return Trainer(
        step=step,
        data=built.data,
        schedule=built.schedule,
        schedules=built.optimizer.schedules,
        checkpoints=built.checkpoints,
        callbacks=built.callbacks,
        folder=folder,
        end=Position.at_end(built.steps, facts),
        accumulation=built.accumulation,
        seed=built.seed,
        log_every=built.log_every,
        product=built.product,
    )

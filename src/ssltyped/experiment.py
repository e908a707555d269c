"""The root of every recipe, and the one place where the parts meet."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Optional, Self, cast

import torch
from annotated_types import Ge, Gt, Lt
from torch import nn

from ssltyped import config
from ssltyped.config import INFERRED, ConfigError, config_for, part_of
from ssltyped.config.hints import nearest
from ssltyped.config.resolve import Resolution, inferred_below, resolve
from ssltyped.data.blank import blank_batch
from ssltyped.data.known import Sources
from ssltyped.data.pipeline import Data
from ssltyped.engine.checkpoint import Checkpoints
from ssltyped.engine.names import name_faults
from ssltyped.engine.parallel import Distributed, Precision, say
from ssltyped.engine.position import Position
from ssltyped.engine.step import Step
from ssltyped.engine.strategy import Product, StepModule, Strategy, strategy_for
from ssltyped.engine.trainer import Trainer
from ssltyped.model.batch_norm import lone_images
from ssltyped.model.fits import misfits
from ssltyped.model.freeze import Freeze, Frozen, for_ever, hold, never_learns
from ssltyped.model.model import Passes, SSLModel, inferred_reads, wrong_inputs
from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.groups import faults
from ssltyped.optimizers.rate import peak_lr, rate_of
from ssltyped.optimizers.schedules import lr_problems, lr_warnings
from ssltyped.transforms.views import last_size
from ssltyped.types import (
    Callback,
    Collator,
    Component,
    Facts,
    Head,
    Inference,
    Loss,
    Moment,
    Optimizer,
    Problem,
    Scheduler,
    Trunk,
    can_be_named,
    named,
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
        if _any_loss(config.loss, "views_apart"):
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
        if any(facts.mask_grids) and not _any_loss(config.loss, "takes_masks"):
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


def _any_loss(loss: Loss, flag: str) -> bool:
    """Whether the method, or one of those that it is made of, says so of itself."""
    return any(getattr(config.part_of(part).kind, flag, False) for _, part in config.walk(loss))


def _keep_classes(collators: Iterable[Collator]) -> bool:
    return all(getattr(part_of(one).kind, "keeps_classes", False) for one in collators)


class FactFinder:
    """What is known about a config. What is costly to find out (a folder's length) is found out once."""

    def __init__(self) -> None:
        self._features: dict[str, Mapping[str, int]] = {}
        self._heads: dict[str, tuple[tuple[int, ...], tuple[type, ...]]] = {}
        self.sources = Sources()

    def __call__(self, experiment: Experiment) -> Facts:
        train, world = experiment.data.train, experiment.distributed
        num_images, train_labelled, why, labels, source = self.sources.of(train, "data.train")
        labelled: Optional[bool] = False
        if (val := experiment.data.val) is not None:
            _, val_labelled, val_why, *_ = self.sources.of(val, "data.val")
            why = why or val_why
            labelled = None if None in (train_labelled, val_labelled) else train_labelled and val_labelled
        views = config.build(train.views, "data.train.views")
        one_node = Facts(
            world_size=world.num_procs,
            ranks_per_node=world.num_procs,
            batch_size=train.batch_size,
            accumulation=experiment.accumulation,
            num_views=len(views.crop_sizes),
            crop_sizes=tuple(views.crop_sizes),
            feature_dims=self._feature_dims(experiment.trunk),
            heads=tuple(experiment.heads),
            output_dims={name: dims for name, head in experiment.heads.items() if (dims := self._head(head)[0])},
            inputs=dict(views.inputs),
            mask_grids=tuple(views.mask_grids),
            num_classes=views.num_classes,
            num_channels=len(experiment.data.mean),
        )
        return dataclasses.replace(
            one_node,
            world_size=world.num_procs * world.nodes,
            num_images=num_images,
            labelled=labelled,
            classes=tuple(source.classes) if source is not None and train_labelled else (),
            unmatched=self.sources.unmatched(experiment.data),
            evaluates=experiment.data.val is not None,
            uses_labels=_any_loss(experiment.loss, "uses_labels"),
            pretext=views.num_classes is not None,
            unlabelled=why,
            train_labelled=True if views.num_classes is not None else train_labelled,
            lr=peak_lr(experiment.optimizer),
            base_lr_of_one_node=_inferred_lr(experiment.optimizer, one_node),
            epochs=experiment.epochs,
            steps=experiment.steps,
            num_labels=labels.classes if _keep_classes(train.collators) else None,
            label_rows=labels.rows,
            head_kinds={name: self._head(head)[1] for name, head in experiment.heads.items()},
        )

    def _feature_dims(self, trunk: Trunk) -> Mapping[str, int]:
        key = config.to_yaml(trunk)
        if key not in self._features:
            with torch.device("meta"):
                self._features[key] = dict(config.build(trunk, "trunk").feature_dims)
        return self._features[key]

    def _head(self, head: Head) -> tuple[tuple[int, ...], tuple[type, ...]]:
        """The widths of its outputs, and the classes of its modules; nothing of one that cannot be built yet."""
        key = config.to_yaml(head)
        if key not in self._heads:
            try:
                with torch.device("meta"):
                    built = config.build(head)
            except ValueError:  # it lacks its in_dim, or cannot be: its problems() says so
                return (), config.kinds_of(head)
            self._heads[key] = tuple(built.out_dims), tuple(dict.fromkeys(map(type, built.modules())))
        return self._heads[key]


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


def _inferred_lr(optimizer: Optimizer, facts: Facts) -> Optional[float]:
    """The learning rate that the optimizer would infer from these facts."""
    part = rate_of(optimizer)
    for inference in config.part_of(part).kind.infer(part, facts):  # type: ignore[attr-defined]  # a Component
        if inference.field == "lr":
            return float(inference.value)
    return None


def resolve_experiment(
    asked: Experiment, name: str = "run", find: Optional[FactFinder] = None
) -> Resolution[Experiment]:
    """A recipe with everything inferred; `name` is that of the recipe."""
    named = asked if asked.name is not None else config.replaced(asked, {"name": name})
    resolution = resolve(named, find or FactFinder())
    resolved, facts = resolution.config, resolution.facts
    if wrong := [*_unfit(resolved, facts), *_unknown_parts(resolved, facts)]:
        raise ConfigError(wrong)
    wrong, unwise = _of_lone_images(resolved, facts)
    if wrong:
        raise ConfigError(wrong)
    return dataclasses.replace(resolution, warnings=(*resolution.warnings, *unwise))


def _unfit(resolved: Experiment, facts: Facts) -> Iterator[Problem]:
    """Images that the trunk does not take, the views and those of an evaluation; heads that are not what they say."""
    sizes = dict.fromkeys(facts.crop_sizes, "the views of data.train")
    if resolved.data.val is not None and (size := last_size(resolved.data.val.transforms)):
        sizes.setdefault(size, "the images of data.val")
    with torch.device("meta"):
        trunk = config.build(resolved.trunk, "trunk")
        heads = {name: config.build(head, f"heads.{name}") for name, head in resolved.heads.items()}
    yield from misfits(trunk, heads, len(resolved.data.mean), sizes)


def _unknown_parts(resolved: Experiment, facts: Facts) -> Iterator[Problem]:
    """What is to be watched, frozen, or to learn in its own way, and is not there."""
    for number, callback in enumerate(resolved.callbacks):
        known = list(facts.feature_dims)
        for feature in config.build(callback, f"callbacks.{number}").reads:
            if feature not in known:
                yield Problem(f"callbacks.{number}", f"reads {feature!r} of the trunk{nearest(feature, known)}")
    grouped = issubclass(part_of(resolved.optimizer).kind, GroupedOptimizer)
    groups = cast(GroupedOptimizer, resolved.optimizer).groups if grouped else []
    if not resolved.freeze and not groups:
        return
    with torch.device("meta"):
        built = config.build(resolved)
        model = SSLModel(trunk=built.trunk, heads=built.heads, views_of=facts.inputs)
        module = Strategy(torch.device("meta")).prepare(model, built.loss)
    for number, freeze in enumerate(resolved.freeze):
        for place, name in enumerate(freeze.parts):
            try:
                named(module, name) if freeze.steps else hold(module, [name])
            except ValueError as error:
                yield Problem(f"freeze.{number}.parts.{place}", str(error))
    yield from (Problem(f"optimizer.{p.path}", p.message) for p in faults(module, [group.parts for group in groups]))


def _of_lone_images(resolved: Experiment, facts: Facts) -> tuple[list[Problem], list[Problem]]:
    """What cannot be, and what may be unwise, where BatchNorm has one image of a step."""
    if facts.batch_size * resolved.distributed.sync_bn_group > 1:
        return [], []
    with torch.device("meta"):
        built = config.build(resolved)
        module, _ = build_module(built, facts, Strategy(torch.device("meta")))
    return lone_images(module, lambda: module(blank_batch(built.data, facts, 1), Moment(0, 1, 1)))


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

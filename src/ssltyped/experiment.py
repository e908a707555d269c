"""The root of every recipe, and the one place where the parts meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Optional, Self

import torch
from annotated_types import Ge, Gt, Lt
from torch import nn

from ssltyped import config
from ssltyped.config import ConfigError, config_for, part_of
from ssltyped.config.hints import nearest
from ssltyped.config.resolve import Resolution, resolve
from ssltyped.data.pipeline import Data
from ssltyped.distributed.sync_batch_norm import convert_sync_batchnorm
from ssltyped.engine.checkpoint import Checkpoints
from ssltyped.engine.parallel import Distributed, Precision, StepModule, wrap
from ssltyped.engine.step import Step
from ssltyped.engine.trainer import Trainer
from ssltyped.model.freeze import Freeze, Frozen, for_ever
from ssltyped.model.model import Passes, SSLModel, named, wrong_counts
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
    Source,
    Trunk,
)


class Experiment(Component):
    """One training: the parts and how long they train together.

    Args:
        trunk: images to features.
        heads: one output each; head i reads features[i], or all read the only feature.
        loss: the method.
        data: what is read, how it is augmented, in which batches.
        optimizer: how the weights move.
        schedule: the learning rate over the run.
        epochs: passes over the images; give this or steps.
        steps: optimizer steps; give this or epochs.
        features: names of the trunk's features that the heads read; null: its last one.
        inputs: name of the input that each head reads, if the views make several; null: the only one.
        passes: what goes through the trunk at once: all consecutive views of one size, or each view alone.
        freeze: parts that do not learn, for ever or for a while.
        global_batch_size: images per optimizer step over all ranks; follows from batch_size, ranks and accumulation.
        accumulation: batches of a rank per optimizer step (each is a batch of its own to a contrastive loss).
        precision: what the forward pass computes in.
        grad_clip: largest norm of the gradient; null: not clipped.
        distributed: processes and devices.
        checkpoints: when state is saved.
        callbacks: what watches the run.
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
        heads: list[Head],
        loss: Loss,
        data: Data,
        optimizer: Optimizer,
        schedule: Scheduler,
        epochs: Optional[Annotated[int, Gt(0)]] = None,
        steps: Optional[Annotated[int, Gt(0)]] = None,
        features: Optional[list[str]] = None,
        inputs: Optional[list[str]] = None,
        passes: Passes = Passes.SIZE,
        freeze: list[Freeze] = [],  # noqa: B006  # never changed; a config shows it as a list
        global_batch_size: Optional[Annotated[int, Gt(0)]] = None,
        accumulation: Annotated[int, Gt(0)] = 1,
        precision: Precision = Precision.FP32,
        grad_clip: Optional[Annotated[float, Gt(0)]] = None,
        distributed: Distributed,
        checkpoints: Checkpoints,
        callbacks: list[Callback],
        seed: Annotated[int, Ge(0), Lt(2**63)] = 0,
        log_every: Annotated[int, Gt(0)] = 10,
        output: Path = Path("runs"),
        name: Optional[str] = None,
        resume: str = "auto",
    ) -> None:
        self.trunk, self.heads, self.loss, self.data = trunk, heads, loss, data
        self.optimizer, self.schedule, self.epochs, self.steps = optimizer, schedule, epochs, steps
        self.features, self.inputs, self.passes, self.freeze = features, inputs, passes, freeze
        self.global_batch_size, self.accumulation = global_batch_size, accumulation
        self.precision, self.grad_clip, self.distributed = precision, grad_clip, distributed
        self.checkpoints, self.callbacks, self.seed, self.log_every = checkpoints, callbacks, seed, log_every
        self.output, self.name, self.resume = output, name, resume

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        ranks = f"{facts.world_size} rank" + "s" * (facts.world_size > 1)
        rule = f"{facts.batch_size} images a rank x {ranks}" + f" x {facts.accumulation} batches" * (
            facts.accumulation > 1
        )
        yield Inference("global_batch_size", facts.global_batch_size, rule)
        if config.features is None:
            yield Inference("features", [list(facts.feature_dims)[-1]], "the last feature of the trunk")
        yield from _length(config, facts)
        for index, name in enumerate(_head_features(config, facts)):
            if hasattr(config.heads[index], "in_dim"):
                yield Inference(f"heads.{index}.in_dim", facts.feature_dims[name], f"width of the trunk's {name}")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        names = list(facts.feature_dims)
        for index, feature in enumerate(config.features or []):
            if feature not in names:
                yield Problem(f"features.{index}", f"the trunk has no feature {feature!r}{nearest(feature, names)}")
        features = names[-1:] if config.features is None else config.features
        if not features:
            yield Problem("features", "is empty: give one feature, or one for each head; null is the trunk's last one")
        wired = wrong_counts(len(config.heads), features, config.inputs or [], facts.inputs)
        yield from (Problem(kind, wrong) for kind, wrong in wired)
        if not config.heads:
            yield Problem("heads", "at least one is needed: the loss reads the output of a head (IdentityHead is one)")
        loss = part_of(config.loss).kind
        if any(facts.mask_grids) and not getattr(loss, "takes_masks", False):
            yield Problem("data.train.views", f"makes masks, and {loss.__name__} uses none")
        per_epoch = facts.steps_per_epoch
        if per_epoch == 0:
            need = f"{facts.global_batch_size} images make one step, and data.train has {facts.num_images}"
            yield Problem("data.train.batch_size", f"{need}: use a smaller batch")
        if config.steps is None and per_epoch is None:
            yield Problem("steps", "give steps, or data.train.num_images: the data is not here to count")
        if config.epochs is None and config.steps is None:
            yield Problem("epochs", "give epochs or steps")


ExperimentConf = config_for(Experiment)


def _length(self: Experiment, facts: Facts) -> Iterable[Inference]:
    per_epoch = facts.steps_per_epoch
    if not per_epoch:
        return
    images = f"{facts.num_images} images / {facts.global_batch_size} a step = {per_epoch} steps an epoch"
    if self.steps is not None:
        yield Inference("epochs", -(-self.steps // per_epoch), f"{self.steps} steps ({images}); a begun epoch counts")
    elif self.epochs is not None:
        yield Inference("steps", self.epochs * per_epoch, f"{self.epochs} epochs x {per_epoch} ({images})")


def _head_features(self: Experiment, facts: Facts) -> list[str]:
    """The feature that each head reads; nothing while one is unknown (problems() says so)."""
    features = list(facts.feature_dims)[-1:] if self.features is None else self.features
    if len(features) not in (1, len(self.heads)) or any(name not in facts.feature_dims for name in features):
        return []
    return [features[min(index, len(features) - 1)] for index in range(len(self.heads))]


class FactFinder:
    """What is known about a config. What is costly to find out (a folder's length) is found out once."""

    def __init__(self) -> None:
        self._features: dict[str, Mapping[str, int]] = {}
        self._outputs: dict[str, tuple[int, ...]] = {}
        self._sources: dict[str, tuple[Optional[int], Optional[bool]]] = {}

    def __call__(self, experiment: Experiment) -> Facts:
        train, world = experiment.data.train, experiment.distributed
        num_images, train_labelled = self._source(train.source, train.num_images, "data.train.source")
        labelled = train_labelled
        if experiment.data.val is not None:
            val = experiment.data.val
            _, val_labelled = self._source(val.source, val.num_images, "data.val.source")
            labelled = None if labelled is None or val_labelled is None else labelled and val_labelled
        else:
            labelled = False
        views = config.build(train.views, "data.train.views")
        one_node = Facts(
            world_size=world.num_procs,
            ranks_per_node=world.num_procs,
            batch_size=train.batch_size,
            accumulation=experiment.accumulation,
            num_views=len(views.crop_sizes),
            crop_sizes=tuple(views.crop_sizes),
            feature_dims=self._feature_dims(experiment.trunk),
            output_dims=self._output_dims(experiment.heads),
            inputs=dict(views.inputs),
            mask_grids=tuple(views.mask_grids),
            num_classes=views.num_classes,
            num_channels=len(experiment.data.mean),
        )
        return Facts(
            **{
                **vars(one_node),
                "world_size": world.num_procs * world.nodes,
                "num_images": num_images,
                "labelled": labelled,
                "evaluates": experiment.data.val is not None,
                "uses_labels": getattr(config.part_of(experiment.loss).kind, "uses_labels", False),
                "pretext": views.num_classes is not None,
                "train_labelled": True if views.num_classes is not None else train_labelled,
                "lr": getattr(experiment.optimizer, "lr", None),
                "base_lr_of_one_node": _inferred_lr(experiment.optimizer, one_node),
                "epochs": experiment.epochs,
            }
        )

    def _source(
        self, source: Optional[Source], declared: Optional[int], path: str
    ) -> tuple[Optional[int], Optional[bool]]:
        """Length and whether there are labels; the declared length where the data is not here."""
        if source is None:
            return declared, None
        key = config.to_yaml(source)
        if key not in self._sources:
            try:
                built = config.build(source)
                self._sources[key] = len(built), built.labelled
            except (OSError, ValueError) as error:
                if isinstance(error, ConfigError) or declared is None:
                    raise ConfigError([Problem(path, str(error))]) from error
                self._sources[key] = None, None
        length, labelled = self._sources[key]
        return (declared if length is None else length), labelled

    def data_problems(self, resolved: Experiment) -> list[Problem]:
        """What a plan may leave open and a run may not: images that are not here, or not as many as declared."""
        found = []
        for name, split in (("train", resolved.data.train), ("val", resolved.data.val)):
            if split is None:
                continue
            declared = split.num_images
            length = self._source(split.source, None, f"data.{name}.source")[0] if split.source is not None else None
            if length is None:
                found.append(Problem(f"data.{name}.path", f"{split.path} does not exist: give the path of your images"))
            elif declared is not None and declared != length:
                message = f"declared {declared}, but there are {length} images: leave it out (null)"
                found.append(Problem(f"data.{name}.num_images", message))
        return found

    def _feature_dims(self, trunk: Trunk) -> Mapping[str, int]:
        key = config.to_yaml(trunk)
        if key not in self._features:
            with torch.device("meta"):
                self._features[key] = dict(config.build(trunk, "trunk").feature_dims)
        return self._features[key]

    def _output_dims(self, heads: list[Head]) -> tuple[int, ...]:
        """The widths of all outputs; nothing while a head's own width is not known."""
        known = [self._out_dims(head) for head in heads]
        return tuple(dim for dims in known for dim in dims) if all(known) else ()

    def _out_dims(self, head: Head) -> tuple[int, ...]:
        key = config.to_yaml(head)
        if key not in self._outputs:
            try:
                with torch.device("meta"):
                    self._outputs[key] = tuple(config.build(head).out_dims)
            except ValueError:  # it lacks its in_dim, or cannot be: its problems() says so
                return ()
        return self._outputs[key]


def build_model(built: Experiment, facts: Facts) -> SSLModel:
    """Trunk and heads of a built experiment, wired."""
    return SSLModel(
        trunk=built.trunk,
        heads=built.heads,
        features=built.features or [],
        inputs=built.inputs or [],
        views_of=facts.inputs,
        passes=built.passes,
        frozen=for_ever(built.freeze),
    )


def build_module(built: Experiment, facts: Facts) -> StepModule:
    """Model and loss of a built experiment. Raises `ConfigError` if none of their parameters learns."""
    model = build_model(built, facts)
    built.loss.setup(model)
    module = StepModule(model, built.loss)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError([Problem("freeze", "nothing is left that learns: leave a part of the model out of it")])
    return module


def build_optimizer(built: Experiment, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over a module's parameters. Raises `ConfigError` for what it cannot be with these."""
    try:
        return built.optimizer(module)
    except (TypeError, ValueError) as error:
        raise ConfigError([Problem("optimizer", str(error))]) from error


def _inferred_lr(optimizer: Optimizer, facts: Facts) -> Optional[float]:
    """The learning rate that the optimizer would infer from these facts."""
    for inference in config.part_of(optimizer).kind.infer(optimizer, facts):  # type: ignore[attr-defined]  # an Optimizer
        if inference.field == "lr":
            return float(inference.value)
    return None


def resolve_experiment(
    asked: Experiment, name: str = "run", find: Optional[FactFinder] = None
) -> Resolution[Experiment]:
    """A recipe with everything inferred; `name` is that of the recipe."""
    named = asked if asked.name is not None else config.replaced(asked, {"name": name})
    resolution = resolve(named, find or FactFinder())
    ignored = _ignored_lr(resolution.config)
    if wrong := [*([ignored] if ignored else []), *_unknown_parts(resolution.config)]:
        raise ConfigError(wrong)
    return resolution


def _unknown_parts(resolved: Experiment) -> Iterator[Problem]:
    """What is to be frozen and is not there."""
    if not resolved.freeze:
        return
    with torch.device("meta"):
        heads = nn.ModuleList(config.build(head, f"heads.{i}") for i, head in enumerate(resolved.heads))
        model = nn.ModuleDict({"trunk": config.build(resolved.trunk, "trunk"), "heads": heads})
    for number, freeze in enumerate(resolved.freeze):
        for place, part in enumerate(freeze.parts):
            try:
                named(model, part)
            except ValueError as error:
                yield Problem(f"freeze.{number}.parts.{place}", str(error))


def _ignored_lr(resolved: Experiment) -> Optional[Problem]:
    """A learning rate that the schedule never comes near was set in vain: the schedule has values of its own."""
    lr = getattr(resolved.optimizer, "lr", None)  # a custom optimizer may have none
    schedule = config.build(resolved.schedule, "schedule")
    highest = max(schedule(index / 2000) for index in range(2000))
    if lr is None or abs(highest - lr) <= 0.01 * lr:
        return None
    message = f"got {lr:g}, but the schedule rises to {highest:g}, which is what counts"
    return Problem("optimizer.lr", f"{message}: leave the schedule's values out (null), or set the same lr")


def build_trainer(resolved: Experiment, *, device: torch.device, folder: Path, facts: Facts) -> Trainer:
    """The objects of a resolved recipe, wired together, the same on every rank."""
    torch.manual_seed(resolved.seed)
    built = config.build(resolved)
    assert built.steps is not None
    module: nn.Module = build_module(built, facts).to(device)
    module = convert_sync_batchnorm(module, built.distributed.sync_bn_group or 1)
    assert isinstance(module, StepModule)
    step = Step(
        module=module,
        wrapped=wrap(module, device),
        optimizer=build_optimizer(built, module),
        device=device,
        precision=built.precision,
        grad_clip=built.grad_clip,
        frozen=Frozen(module.model, built.freeze, built.steps),
    )
    return Trainer(
        step=step,
        data=built.data,
        schedule=built.schedule,
        weight_decay_schedule=getattr(built.optimizer, "weight_decay_schedule", None),
        checkpoints=built.checkpoints,
        callbacks=built.callbacks,
        folder=folder,
        steps=built.steps,
        steps_per_epoch=facts.steps_per_epoch or built.steps,
        accumulation=built.accumulation,
        seed=built.seed,
        log_every=built.log_every,
    )

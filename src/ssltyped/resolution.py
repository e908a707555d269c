"""A recipe with everything inferred and checked: what is known of it, and what only shows when its parts meet."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Optional, cast

import torch

from ssltyped import config
from ssltyped.config import ConfigError, part_of
from ssltyped.config.hints import nearest
from ssltyped.config.resolve import Resolution, resolve
from ssltyped.data.blank import blank_batch
from ssltyped.data.known import Sources
from ssltyped.engine.strategy import Strategy
from ssltyped.experiment import Experiment, build_module
from ssltyped.model.batch_norm import lone_images
from ssltyped.model.fits import misfits
from ssltyped.model.freeze import hold
from ssltyped.model.model import SSLModel
from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.groups import faults
from ssltyped.optimizers.rate import peak_lr, rate_of
from ssltyped.transforms.views import last_size
from ssltyped.types import Facts, Head, Moment, Optimizer, Problem, Trunk, named


class FactFinder:
    """What is known about a config. What is costly to find out (a folder's length) is found out once."""

    def __init__(self) -> None:
        self._features: dict[str, Mapping[str, int]] = {}
        self._heads: dict[str, tuple[tuple[int, ...], tuple[type, ...]]] = {}
        self.sources = Sources()

    def __call__(self, experiment: Experiment) -> Facts:
        train, world = experiment.data.train, experiment.distributed
        num_images, own_labels, why, *_ = self.sources.of(train, "data.train")
        _, train_labelled, _, labels, source = self.sources.learned(train)
        labelled: Optional[bool] = False
        if experiment.data.val is not None:
            val_labelled, val_why = self.sources.val_labels(experiment.data)
            why = why or val_why
            labelled = None if None in (own_labels, val_labelled) else own_labels and val_labelled
        views = config.build(train.views, "data.train.views")
        keep_classes = all(getattr(part_of(one).kind, "keeps_classes", False) for one in train.collators)
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
            uses_labels=config.any_says(experiment.loss, "uses_labels"),
            pretext=views.num_classes is not None or train.labels is not None,
            unlabelled=why,
            train_labelled=True if views.num_classes is not None else train_labelled,
            lr=peak_lr(experiment.optimizer),
            base_lr_of_one_node=_inferred_lr(experiment.optimizer, one_node),
            epochs=experiment.epochs,
            steps=experiment.steps,
            num_labels=labels.classes if keep_classes else None,
            label_rows=labels.rows,
            head_kinds={name: self._head(head)[1] for name, head in experiment.heads.items()},
        )

    def _feature_dims(self, trunk: Trunk) -> Mapping[str, int]:
        key = config.key_of(trunk)
        if key not in self._features:
            with torch.device("meta"):
                self._features[key] = dict(config.build(trunk, "trunk").feature_dims)
        return self._features[key]

    def _head(self, head: Head) -> tuple[tuple[int, ...], tuple[type, ...]]:
        """The widths of its outputs, and the classes of its modules; nothing of one that cannot be built yet."""
        key = config.key_of(head)
        if key not in self._heads:
            try:
                with torch.device("meta"):
                    built = config.build(head)
            except ValueError:  # it lacks its in_dim, or cannot be: its problems() says so
                return (), config.kinds_of(head)
            self._heads[key] = tuple(built.out_dims), tuple(dict.fromkeys(map(type, built.modules())))
        return self._heads[key]


def _inferred_lr(optimizer: Optimizer, facts: Facts) -> Optional[float]:
    """The learning rate that the optimizer would infer from these facts."""
    part = rate_of(optimizer)
    for inference in config.part_of(part).kind.infer(part, facts):  # type: ignore[attr-defined]  # a Component
        if inference.field == "lr":
            return float(inference.value)
    return None


def resolve_experiment(
    asked: Experiment, name: str = "run", find: Optional[FactFinder] = None, *, strict: bool = False
) -> Resolution[Experiment]:
    """A recipe with everything inferred; `name` is that of the recipe. `strict`: what may be unwise is an error too."""
    named = asked if asked.name is not None else config.replaced(asked, {"name": name})
    resolution = resolve(named, find or FactFinder())
    resolved, facts = resolution.config, resolution.facts
    if wrong := [*_unfit(resolved, facts), *_unknown_parts(resolved, facts)]:
        raise ConfigError(wrong)
    wrong, unwise = _of_lone_images(resolved, facts)
    if wrong:
        raise ConfigError(wrong)
    found = dataclasses.replace(resolution, warnings=(*resolution.warnings, *unwise))
    if strict:
        found.refuse_warnings()
    return found


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

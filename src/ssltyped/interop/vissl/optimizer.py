"""`OPTIMIZER` of VISSL to the config of one of our optimizers with its parameter groups, and the schedule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from ssltyped import config
from ssltyped.config import ConfigError, join
from ssltyped.config.hints import nearest
from ssltyped.config.resolve import Row
from ssltyped.interop.vissl.schedules import Size, scaled, schedule
from ssltyped.interop.vissl.settings import Settings, make
from ssltyped.interop.vissl.yaml import Value
from ssltyped.optimizers.adam import Adam
from ssltyped.optimizers.adamw import AdamW
from ssltyped.optimizers.groups import PerHead
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.lars import LARS
from ssltyped.optimizers.rmsprop import RMSprop
from ssltyped.optimizers.sgd import SGD
from ssltyped.optimizers.zero import Zero
from ssltyped.types import Optimizer, Problem, Scheduler

POINTS = 2000
"""Where schedules are compared."""


@dataclasses.dataclass(frozen=True)
class Training:
    """The optimizer, the schedule of its learning rate, and the epochs of the run."""

    optimizer: Optimizer
    schedule: Scheduler
    epochs: int


@dataclasses.dataclass(frozen=True)
class Weights:
    """What the groups depend on: VISSL's name of each of our parameters, and whether the trunk is a ResNet."""

    names: Mapping[str, str]
    of_resnet: bool


def training(section: Settings, size: Size, weights: Weights, rows: list[Row]) -> Training:
    """The training of an `OPTIMIZER` section. Raises `ConfigError`."""
    epochs = section.get("num_epochs", int, 90)
    schedules = section.at("param_schedulers")
    schedules.skip_all()
    sized = dataclasses.replace(size, epochs=epochs)
    lr = _lr_schedule(schedules, "lr", sized, rows)
    highest = _highest(lr)
    fields: dict[str, object] = {"lr": highest, **_groups(section, weights, rows), **_own(section)}
    fields |= _head_fields(section, schedules, lr, sized, rows)
    if (decay := schedules.values.get("weight_decay")) is not None:
        fields |= _weight_decay(decay, epochs, schedules.path)
    if section.get("use_larc", bool, False):
        larc = section.at("larc_config")
        fields["larc"] = make(
            LARC,
            {
                "trust_coefficient": larc.get("trust_coefficient", float, 0.001),
                "clip": larc.get("clip", bool, False),
                "eps": larc.get("eps", float, 1e-8),
            },
            larc.path,
        )
    else:
        section.skip("larc_config")
    if section.get("use_zero", bool, False) or section.get("name", str, "sgd") == "zero":
        fields["zero"] = make(Zero, {}, section.path)
    return Training(make(_kind(section), fields, section.path), lr, epochs)


def _kind(section: Settings) -> type[Optimizer]:
    name = section.get("name", str, "sgd")
    if name not in OPTIMIZERS:
        raise section.wrong("name", f"there is no such optimizer{nearest(name, sorted(OPTIMIZERS))}")
    return OPTIMIZERS[name][0]


def _own(section: Settings) -> dict[str, object]:
    """The options of this optimizer alone; those of the others, which stand beside them, have no effect."""
    wanted = OPTIMIZERS[section.get("name", str, "sgd")][1] if section.get("name", str, "sgd") in OPTIMIZERS else {}
    section.skip(*(key for _, options in OPTIMIZERS.values() for key in options))
    return {field: section.values[key] for key, field in wanted.items() if key in section}


_MOMENTUM = {"momentum": "momentum", "nesterov": "nesterov"}
_BETAS = {"betas": "betas", "eps": "eps", "amsgrad": "amsgrad"}

OPTIMIZERS: Mapping[str, tuple[type[Optimizer], Mapping[str, str]]] = {
    "sgd": (SGD, _MOMENTUM),
    "sgd_fsdp": (SGD, _MOMENTUM),
    "adam": (Adam, _BETAS),
    "adamw": (AdamW, _BETAS),
    "adamw_mt": (AdamW, _BETAS),
    "lars": (
        LARS,
        {"momentum": "momentum", "eta": "eta", "exclude_bias_and_norm": "exclude_bias_and_norm"},
    ),
    "rmsprop": (RMSprop, {"momentum": "momentum", "alpha": "alpha", "eps": "eps", "centered": "centered"}),
}
"""VISSL's names, with the options that each reads: theirs and ours."""


def _lr_schedule(section: Settings, key: str, size: Size, rows: list[Row]) -> Scheduler:
    path = join(section.path, key)
    values = section.values.get(key)
    if not isinstance(values, dict):
        raise ConfigError([Problem(path, f"got {values!r}: want a schedule")])
    return schedule(scaled(values, size, path, rows), size.epochs, path)


def _values(parameter: Scheduler) -> list[float]:
    built = config.build(parameter)
    return [built(index / POINTS) for index in range(POINTS)]


def _highest(parameter: Scheduler) -> float:
    return max(_values(parameter))


def _weight_decay(values: Value, epochs: int, path: str) -> dict[str, object]:
    """The schedule of the weight decay, whose highest value is the weight decay."""
    if not isinstance(values, dict):
        raise ConfigError([Problem(join(path, "weight_decay"), f"got {values!r}: want a schedule")])
    found = schedule(values, epochs, join(path, "weight_decay"))
    # The end of a rising cosine is never quite reached.
    end = getattr(found, "end", 0.0) or 0.0
    return {"weight_decay": max(_highest(found), end), "weight_decay_schedule": found}


def _head_fields(
    section: Settings, schedules: Settings, lr: Scheduler, size: Size, rows: list[Row]
) -> dict[str, object]:
    """What the heads have of their own."""
    head = section.at("head_optimizer_params")
    fields: dict[str, object] = {}
    different_wd, own_wd = head.get("use_different_wd", bool, False), head.get("weight_decay", float, 1e-4)
    if different_wd:
        fields["head_weight_decay"] = own_wd
    if head.get("use_different_lr", bool, False):
        own = _lr_schedule(schedules, "lr_head", size, rows)
        highest, own_highest = _highest(lr), _highest(own)
        pairs = zip(_values(lr), _values(own), strict=True)
        if any(not math.isclose(a * own_highest, b * highest, rel_tol=1e-6, abs_tol=1e-12) for a, b in pairs):
            message = "must be a multiple of lr: the learning rates of trunk and heads rise and fall together here"
            raise ConfigError([Problem(join(schedules.path, "lr_head"), message)])
        fields["head_lr"] = own_highest
    return fields


def _groups(section: Settings, weights: Weights, rows: list[Row]) -> dict[str, object]:
    """Which parameters are decayed, and with which learning rate."""
    decay = section.get("weight_decay", float, 1e-4)
    single = section.get("construct_single_param_group_only", bool, False)
    norm, bias = section.get("regularize_bn", bool, False), section.get("regularize_bias", bool, True)
    no_decay = section.get("non_regularized_parameters", list[str], [])
    layers = section.at("layer_wise_lr_decay").get("decay", float, 0.9)
    section.skip("linear_eval_heads")
    if single:
        return {"weight_decay": decay, "decay_norm": True, "decay_bias": True}
    kind = section.get("param_group_constructor", str, "default")
    fields: dict[str, object] = {"weight_decay": decay, "decay_norm": norm, "decay_bias": bias}
    fields["no_decay"] = _no_decay(no_decay, weights.names, rows, join(section.path, "non_regularized_parameters"))
    if kind == "default":
        return fields
    if kind == "dino":
        return {**fields, "decay_norm": False, "decay_bias": False}
    if kind == "lr_decay":
        # With layers of other trunks, biases are not decayed, whatever regularize_bias says.
        return {
            **fields,
            "layer_decay": layers,
            **({} if weights.of_resnet else {"decay_norm": False, "decay_bias": False}),
        }
    if kind == "linear_eval_heads":
        return {**fields, "per_head": _per_head(section)}
    known = ["default", "dino", "lr_decay", "linear_eval_heads"]
    raise section.wrong("param_group_constructor", f"there is no such rule{nearest(kind, known)}")


def _per_head(section: Settings) -> list[PerHead]:
    """What each head of an evaluation has of its own."""
    heads = section.values.get("linear_eval_heads")
    made = []
    for number, values in enumerate(heads if isinstance(heads, list) else []):
        if not isinstance(values, dict) or (set(values) - set(_PER_HEAD)):
            raise section.wrong("linear_eval_heads", f"want of each head {', '.join(_PER_HEAD)}, or some of them")
        fields = {_PER_HEAD[key]: value for key, value in values.items() if value is not None}
        made.append(make(PerHead, fields, join(section.path, f"linear_eval_heads.{number}")))
    return made


_PER_HEAD = {"lr": "lr_scale", "weight_decay": "weight_decay", "regularize_bn": "decay_norm"}


def _no_decay(texts: Sequence[str], names: Mapping[str, str], rows: list[Row], path: str) -> list[str]:
    """Texts in our names for texts in theirs; one that no parameter has in its name says nothing and goes."""
    found: list[str] = []
    for text in texts:
        meant = [ours for ours, theirs in names.items() if text in theirs]
        if meant == [ours for ours in names if text in ours]:
            found += [text] if meant else []
        else:
            found += meant
        if not meant:
            rows.append(Row(path, text, None, "no parameter has it in its name"))
    return found

"""`OPTIMIZER` of VISSL to the config of one of our optimizers with its parameter groups, and the schedule."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from ssltyped import config
from ssltyped.config import join
from ssltyped.config.hints import nearest
from ssltyped.config.resolve import Row
from ssltyped.interop.vissl.schedules import Size, scaled, schedule
from ssltyped.interop.vissl.settings import Settings, choice, make
from ssltyped.interop.vissl.yaml import Tree, Value
from ssltyped.optimizers.decay import Decay
from ssltyped.optimizers.groups import Group
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.lars import LARS
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.torch_optim import SGD, Adam, AdamW, RMSprop
from ssltyped.optimizers.zero import Zero
from ssltyped.types import Optimizer, Scheduler

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
    kind, own = choice(section, "name", OPTIMIZERS, "sgd", "there is no such optimizer")
    # The options of the others, which stand beside its own, have no effect.
    section.skip(*(key for _, options in OPTIMIZERS.values() for key in options))
    fields: dict[str, object] = {key: section.values[key] for key in own if key in section}
    if kind is LARS:
        fields.setdefault("exclude_bias_and_norm", False)
    fields["weight_decay"] = section.get("weight_decay", float, 1e-4)
    sized = dataclasses.replace(size, epochs=section.get("num_epochs", int, 90))
    schedules = section.at("param_schedulers")
    schedules.skip_all()
    lr = _lr_schedule(schedules, "lr", sized, rows)
    rate, decay = _decays(section, weights, rows)
    if schedules.values.get("weight_decay") is not None:
        found = schedule(_given(schedules, "weight_decay"), sized.epochs, join(schedules.path, "weight_decay"))
        # The end of a rising cosine is never quite reached.
        fields["weight_decay"] = max(_highest(found), getattr(found, "end", 0.0) or 0.0)
        decay["schedule"] = found
    fields["rate"] = make(Rate, {"lr": _highest(lr), **rate}, section.path)
    fields["decay"] = make(Decay, decay, section.path)
    fields["groups"] = _head_groups(section, schedules, lr, weights, sized, rows)
    if section.get("use_larc", bool, False):
        larc = section.at("larc_config")
        fields["larc"] = make(LARC, larc.same(trust_coefficient=0.001, clip=False, eps=1e-8), larc.path)
    else:
        section.skip("larc_config")
    if section.get("use_zero", bool, False):
        fields["zero"] = make(Zero, {}, section.path)
    return Training(make(kind, fields, section.path), lr, sized.epochs)


OPTIMIZERS: Mapping[str, tuple[type[Optimizer], Sequence[str]]] = {
    "sgd": (SGD, ("momentum", "nesterov")),
    "sgd_fsdp": (SGD, ("momentum", "nesterov")),
    "adam": (Adam, ("betas", "eps", "amsgrad")),
    "adamw": (AdamW, ("betas", "eps", "amsgrad")),
    "adamw_mt": (AdamW, ("betas", "eps", "amsgrad")),
    "lars": (LARS, ("momentum", "eta", "exclude_bias_and_norm")),
    "rmsprop": (RMSprop, ("momentum", "alpha", "eps", "centered")),
}
"""VISSL's names, with the options that each reads, which have the same names here."""


def _given(schedules: Settings, key: str) -> Tree:
    values = schedules.values.get(key)
    if not isinstance(values, dict):
        raise schedules.wrong(key, "want a schedule")
    return values


def _lr_schedule(schedules: Settings, key: str, size: Size, rows: list[Row]) -> Scheduler:
    path = join(schedules.path, key)
    return schedule(scaled(_given(schedules, key), size, path, rows), size.epochs, path)


def _values(parameter: Scheduler) -> list[float]:
    built = config.build(parameter)
    return [built(index / POINTS) for index in range(POINTS)]


def _highest(parameter: Scheduler) -> float:
    return config.build(parameter).highest()


def _decays(section: Settings, weights: Weights, rows: list[Row]) -> tuple[dict[str, object], dict[str, object]]:
    """Fields of `Rate` and of `Decay`: how the learning rate falls from layer to layer, and what is decayed."""
    single = section.get("construct_single_param_group_only", bool, False)
    norm, bias = section.get("regularize_bn", bool, False), section.get("regularize_bias", bool, True)
    texts = section.get("non_regularized_parameters", list[str], [])
    layers = section.at("layer_wise_lr_decay").get("decay", float, 0.9)
    section.skip("linear_eval_heads")
    if single:
        return {}, {"norm": True, "bias": True, "vector": True}
    exclude = _no_decay(texts, weights.names, rows, join(section.path, "non_regularized_parameters"))
    decay: dict[str, object] = {"norm": norm, "bias": bias, "vector": True, "exclude": exclude}
    neither = {**decay, "norm": False, "bias": False, "vector": False}
    kind = section.get("param_group_constructor", str, "default")
    if kind == "dino":
        return {}, neither
    if kind == "lr_decay":
        # With layers of other trunks, biases are not decayed, whatever regularize_bias says.
        return {"layer_decay": layers}, decay if weights.of_resnet else neither
    known = ["default", "dino", "lr_decay", PER_HEAD]
    if kind not in known:
        raise section.wrong("param_group_constructor", f"there is no such rule{nearest(kind, known)}")
    return {}, decay


PER_HEAD = "linear_eval_heads"


def _head_groups(
    section: Settings, schedules: Settings, lr: Scheduler, weights: Weights, size: Size, rows: list[Row]
) -> list[Group]:
    """What the heads have of their own, together or each."""
    head = section.at("head_optimizer_params")
    different_wd, weight_decay = head.get("use_different_wd", bool, False), head.get("weight_decay", float, 1e-4)
    shared: dict[str, object] = {"weight_decay": weight_decay} if different_wd else {}
    if head.get("use_different_lr", bool, False):
        own = _lr_schedule(schedules, "lr_head", size, rows)
        shared |= {"lr": _highest(own)} if _multiple(lr, own) else {"lr": _highest(own), "schedule": own}
    heads = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in weights.names if name.startswith("heads.")))
    single = section.get("construct_single_param_group_only", bool, False)
    entries = section.values.get(PER_HEAD)
    if isinstance(entries, list) and section.values.get("param_group_constructor") == PER_HEAD and not single:
        return _each_head(section, entries, heads, shared)
    return [make(Group, {"parts": ["heads"], **shared}, head.path)] if heads and shared else []


def _multiple(lr: Scheduler, own: Scheduler) -> bool:
    """Whether both rise and fall together."""
    highest, own_highest = _highest(lr), _highest(own)
    pairs = zip(_values(lr), _values(own), strict=True)
    return all(math.isclose(a * own_highest, b * highest, rel_tol=1e-6, abs_tol=1e-12) for a, b in pairs)


def _each_head(
    section: Settings, entries: Sequence[Value], heads: Sequence[str], shared: Mapping[str, object]
) -> list[Group]:
    """What each head of an evaluation has of its own, beside what all heads have."""
    if len(entries) != len(heads):
        raise section.wrong(PER_HEAD, f"{len(entries)} entries for {len(heads)} heads: want one each")
    made = []
    for number, values in enumerate(entries):
        if not isinstance(values, dict) or (set(values) - set(_EACH)):
            raise section.wrong(PER_HEAD, f"want of each head {', '.join(_EACH)}, or some of them")
        own = {_EACH[key]: value for key, value in values.items() if value is not None}
        fields = {"parts": [heads[number]], **shared, **own}
        made.append(make(Group, fields, join(section.path, f"{PER_HEAD}.{number}")))
    return made


_EACH = {"lr": "lr_scale", "weight_decay": "weight_decay", "regularize_bn": "decay_norm"}


def _no_decay(texts: Sequence[str], names: Mapping[str, str], rows: list[Row], path: str) -> list[str]:
    """Texts in our names for texts in theirs; one that no parameter has in its name says nothing and goes."""
    found: list[str] = []
    for text in texts:
        meant = [ours for ours, theirs in names.items() if text in theirs]
        if not meant:
            rows.append(Row(path, text, None, "no parameter has it in its name"))
        elif meant == [ours for ours in names if text in ours]:
            found.append(text)
        else:
            found += meant
    return found

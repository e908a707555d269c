"""`OPTIMIZER.param_schedulers` of VISSL to our schedules, after its rules for scaling the learning rate.

With `auto_scale` the learning rate is base_value x s, s = images per step / base_lr_batch_size (or its square root),
and the values of the schedule are scaled to it: they only say its shape. A linear member of a composite is a warmup;
it starts at the learning rate of one node's batch, and on one node, where that is where it ends, it is left out.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Optional

from ssltyped.config import ConfigError, join
from ssltyped.config.hints import nearest
from ssltyped.config.resolve import Row
from ssltyped.interop.vissl.settings import Settings, choice, make
from ssltyped.interop.vissl.yaml import Tree, Value
from ssltyped.schedulers.composite import Composite, Interval
from ssltyped.schedulers.cosine import Cosine, CosineWarmRestarts, Wave
from ssltyped.schedulers.curves import Constant, InverseSqrt, Linear, Polynomial
from ssltyped.schedulers.steps import MultiStep, PiecewiseConstant, Staircase
from ssltyped.types import Problem, Scheduler, Update


@dataclasses.dataclass(frozen=True)
class Size:
    """Images per step of the run, and of one node of it; its nodes and epochs."""

    images: int
    images_of_a_node: int
    nodes: int
    epochs: int


def scaled(values: Tree, size: Size, path: str, rows: list[Row]) -> Tree:
    """The values of a learning rate's schedule after scaling; each change is added to `rows`."""
    result = copy.deepcopy(values)
    rule = result.get("auto_lr_scaling")
    if not isinstance(rule, dict) or not rule.get("auto_scale"):
        return result
    base, batch = _number(rule, "base_value", 0.1), _number(rule, "base_lr_batch_size", 256)
    kind = rule.get("scaling_type", "linear")
    if kind not in ("linear", "sqrt"):
        raise ConfigError([Problem(join(path, "auto_lr_scaling.scaling_type"), f"got {kind!r}: want linear or sqrt")])
    scale = size.images / batch
    _scale(result, base * (math.sqrt(scale) if kind == "sqrt" else scale), path)
    members = result.get("schedulers")
    if result.get("name") == "composite" and isinstance(members, list):
        _start_warmups(result, members, base * size.images_of_a_node / batch, size.nodes)
    text = f"{base:g} x {size.images} images a step / {batch:g} ({kind} scaling)"
    for key in result:
        if result[key] != values.get(key):
            rows.append(Row(join(path, key), values.get(key), result[key], text))
    return result


def _scale(schedule: Tree, lr: float, path: str) -> None:
    """Scale the values of one schedule, in place."""
    name = str(schedule.get("name"))
    if "cosine" in name:
        start, end = _number(schedule, "start_value", 0.1), _number(schedule, "end_value", 0.0)
        if start == 0:
            raise ConfigError([Problem(join(path, "start_value"), "is 0, which cannot be scaled")])
        schedule["end_value"], schedule["start_value"] = lr * (end / start), lr
    elif name in ("multistep", "step"):
        values = schedule.get("values")
        if not isinstance(values, list) or not values:
            raise ConfigError([Problem(join(path, "values"), f"got {values!r}: want numbers")])
        first = [float(value) for value in values[:2] if isinstance(value, int | float)]
        gamma = round(first[1] / first[0], 6) if len(first) > 1 else 1.0
        schedule["values"] = [round(lr * gamma**i, 8) for i in range(len(values))]
    elif name == "composite":
        for number, member in enumerate(_members(schedule)):
            _scale(member, lr, join(path, f"schedulers.{number}"))
    elif name in _VALUE_OF:
        schedule[_VALUE_OF[name]] = lr
    else:
        raise ConfigError([Problem(join(path, "name"), f"the learning rate of {name!r} cannot be scaled")])


_VALUE_OF = {
    "step_with_fixed_gamma": "base_value",
    "linear": "end_value",
    "inverse_sqrt": "start_value",
    "constant": "value",
}


def _start_warmups(schedule: Tree, members: list[Value], start: float, nodes: int) -> None:
    """The start of linear members; the last of them goes if it has nothing to do."""
    warmups = [member for member in members if isinstance(member, dict) and member.get("name") == "linear"]
    for member in warmups:
        member["start_value"] = start
    idle = [member for member in warmups if nodes == 1 and start <= _number(member, "end_value", 0.0)]
    if idle:
        members.remove(idle[-1])
    if len(members) == 1 and idle and isinstance(members[0], dict):
        schedule.update(members[0])


def _members(schedule: Tree) -> list[Tree]:
    members = schedule.get("schedulers")
    return [member for member in members if isinstance(member, dict)] if isinstance(members, list) else []


def _number(values: Mapping[str, Value], key: str, default: float) -> float:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else default


def schedule(values: Tree, epochs: int, path: str) -> Scheduler:
    """A schedule's config from its (scaled) values. Raises `ConfigError`."""
    section = Settings(values, path, set())
    build, usual = choice(section, "name", SCHEDULES, None, "there is no such schedule")
    update = choice(section, "update_interval", {item.value: item for item in Update}, usual.value)
    return build(section, epochs, None if update is usual else update)


def _member(values: Tree, epochs: int, path: str) -> Scheduler:
    """A part of a composite; VISSL does not read how often it changes, which the whole says."""
    return schedule({key: value for key, value in values.items() if key != "update_interval"}, epochs, path)


def _constant(s: Settings, epochs: int, update: Optional[Update]) -> Scheduler:
    return make(Constant, {"value": s.require("value", float)}, s.path)


def _plain(
    kind: type[Scheduler], fields: Mapping[str, tuple[str, type]], s: Settings, epochs: int, update: Update
) -> Scheduler:
    """A schedule each of whose fields is a setting that must be there: its name and type."""
    return make(kind, {field: s.require(*setting) for field, setting in fields.items()} | {"update": update}, s.path)


def _multistep(s: Settings, epochs: int, update: Optional[Update]) -> Scheduler:
    values = s.require("values", list[float])
    stride = math.ceil(epochs / len(values))
    milestones = s.get("milestones", list[int], [stride * i for i in range(1, len(values))])
    fields = {"values": values, "milestones": milestones, "epochs": s.get("num_epochs", int, epochs), "update": update}
    return make(MultiStep, fields, s.path)


def _warm_restarts(s: Settings, epochs: int, update: Optional[Update]) -> Scheduler:
    fields = {
        "start": s.require("start_value", float),
        "end": s.require("end_value", float),
        "interval": s.require("restart_interval_length", float),
        "wave": choice(s, "wave_type", {wave.value: wave for wave in Wave}, "half"),
        "gamma": s.get("lr_multiplier", float, 1.0),
        "adaptive": s.get("is_adaptive", bool, False),
        "update": update,
    }
    return make(CosineWarmRestarts, fields, s.path)


def _composite(s: Settings, epochs: int, update: Optional[Update]) -> Scheduler:
    members = _members(s.values)
    parts = [_member(member, epochs, join(s.path, f"schedulers.{number}")) for number, member in enumerate(members)]
    options = {item.value: item for item in Interval}
    names: Sequence[str] = s.get("interval_scaling", list[str], [])
    if unknown := [name for name in names if name not in options]:
        raise s.wrong("interval_scaling", f"no such option{nearest(unknown[0], list(options))}")
    fields = {
        "schedulers": parts,
        "lengths": s.require("lengths", list[float]),
        "intervals": [options[name] for name in names] or None,
        "update": update,
    }
    return make(Composite, fields, s.path)


_ENDS = {"start": ("start_value", float), "end": ("end_value", float)}
_DECAYS = {"start": ("base_value", float), "gamma": ("gamma", float), "num_decays": ("num_decays", int)}
_POWER = {"start": ("base_value", float), "power": ("power", float)}
_WARMUP = {"start": ("start_value", float), "warmup": ("warmup_interval_length", float)}

SCHEDULES: Mapping[str, tuple[Callable[[Settings, int, Optional[Update]], Scheduler], Update]] = {
    "constant": (_constant, Update.EPOCH),
    "cosine": (partial(_plain, Cosine, _ENDS), Update.STEP),
    "linear": (partial(_plain, Linear, _ENDS), Update.STEP),
    "multistep": (_multistep, Update.EPOCH),
    "step": (partial(_plain, PiecewiseConstant, {"values": ("values", list[float])}), Update.EPOCH),
    "step_with_fixed_gamma": (partial(_plain, Staircase, _DECAYS), Update.STEP),
    "polynomial": (partial(_plain, Polynomial, _POWER), Update.STEP),
    "cosine_warm_restart": (_warm_restarts, Update.STEP),
    "inverse_sqrt": (partial(_plain, InverseSqrt, _WARMUP), Update.STEP),
    "composite": (_composite, Update.STEP),
}
"""VISSL's names, and how often the value changes if that is not said: as often as ours."""

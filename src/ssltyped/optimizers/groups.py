"""Which parameters are decayed, and with which learning rate: parameter groups by the kind of module they are in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, NamedTuple, Optional

from annotated_types import Ge
from torch import nn

from ssltyped.config import config_for
from ssltyped.config.hints import nearest
from ssltyped.optimizers.layers import depths
from ssltyped.types import Component, Head, ParamGroup, Trunk

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Role(Enum):
    """Whose parameter: by the innermost Trunk or Head around it."""

    TRUNK = "trunk"
    HEAD = "head"
    OTHER = "other"


class PerHead(Component):
    """What one head has of its own, when several are trained side by side (linear probes at several settings).

    Args:
        lr_scale: multiplies the learning rate that the head would have.
        weight_decay: weight decay of this head; null: that of the heads.
        decay_norm: whether its normalization layers are decayed; null: as the optimizer says.
    """

    def __init__(
        self,
        *,
        lr_scale: Annotated[float, Ge(0)] = 1.0,
        weight_decay: Optional[Annotated[float, Ge(0)]] = None,
        decay_norm: Optional[bool] = None,
    ) -> None:
        self.lr_scale, self.weight_decay, self.decay_norm = lr_scale, weight_decay, decay_norm


PerHeadConf = config_for(PerHead)


@dataclasses.dataclass(frozen=True)
class GroupRules:
    """The values of `GroupedOptimizer` that decide the groups; `head_lr_scale` is head_lr / lr."""

    weight_decay: float
    head_weight_decay: float
    head_lr_scale: float
    decay_norm: bool
    decay_bias: bool
    decay_vector: bool
    no_decay: Sequence[str]
    per_head: Sequence[PerHead] = ()
    layer_decay: Optional[float] = None

    def decays(self, owned: Owned) -> bool:
        """Whether a parameter is decayed."""
        if any(part in owned.name for part in self.no_decay):
            return False
        bias, norm = owned.name.endswith("bias"), isinstance(owned.module, NORMS)
        own = self.per_head[owned.head].decay_norm if self.per_head and owned.head is not None else None
        if norm and not (self.decay_norm if own is None else own):
            return False
        if bias and not self.decay_bias:
            return False
        return self.decay_vector or norm or bias or owned.parameter.ndim != 1


class Owned(NamedTuple):
    """A parameter: its path, the module that owns it, its role, and the number of the (outermost) head it is in."""

    name: str
    parameter: nn.Parameter
    module: nn.Module
    role: Role
    head: Optional[int]


class _Key(NamedTuple):
    """What the parameters of a group have in common."""

    role: Role
    head: Optional[int]
    layer: Optional[int]
    decays: bool

    @property
    def name(self) -> str:
        owner = self.role.value + ("" if self.head is None else str(self.head))
        layer = "" if self.layer is None else f".layer{self.layer}"
        return f"{owner}{layer}.{'decay' if self.decays else 'no_decay'}"


def param_groups(module: nn.Module, rules: GroupRules) -> list[ParamGroup]:
    """The trainable parameters, each once, in groups of {trunk, head, other} x {decay, no_decay}.

    With `per_head` the heads of the model are apart from each other (those of a module `loss` beside it, such as a
    teacher's copies, do not count and stay together), with `layer_decay` the layers of the trunk. Within a group
    they keep the order of the network. Raises ValueError if nothing is trainable, if an entry of `no_decay` is in
    no parameter's name, if there are not as many `per_head` as heads, or if a trunk has no layers to tell apart.
    """
    heads = _trained_heads(module)
    owned = list(_walk(module, "", Role.OTHER, heads, None))
    _check_names([entry.name for entry in owned], rules.no_decay)
    if rules.per_head and len(rules.per_head) != len(heads):
        counts = f"{len(rules.per_head)} entries for {len(heads)} heads"
        raise ValueError(f"per_head: {counts}: give one each, in the order of the model")
    layers, last = ({}, 0) if rules.layer_decay is None else _layers(module)
    groups: dict[_Key, list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for entry in owned:
        if entry.parameter.requires_grad and entry.parameter not in seen:
            seen.add(entry.parameter)
            head = entry.head if rules.per_head and entry.role is Role.HEAD else None
            layer = None if rules.layer_decay is None else layers.get(entry.name, last + 1)
            groups.setdefault(_Key(entry.role, head, layer, rules.decays(entry)), []).append(entry.parameter)
    if not groups:
        raise ValueError("no parameter is trainable: everything is frozen, or the model has none")
    order = list(Role)
    keys = sorted(groups, key=lambda k: (k.layer or 0, order.index(k.role), k.head or 0, not k.decays))
    return [_group(key, groups[key], rules, last) for key in keys]


def _group(key: _Key, params: list[nn.Parameter], rules: GroupRules, last: int) -> ParamGroup:
    head = key.role is Role.HEAD
    weight_decay = rules.head_weight_decay if head else rules.weight_decay
    lr_scale = rules.head_lr_scale if head else 1.0
    if key.head is not None:
        own = rules.per_head[key.head]
        weight_decay = weight_decay if own.weight_decay is None else own.weight_decay
        lr_scale *= own.lr_scale
    if rules.layer_decay is not None and key.layer is not None:
        lr_scale *= rules.layer_decay ** (last + 1 - key.layer)
    return ParamGroup(name=key.name, params=params, weight_decay=weight_decay if key.decays else 0.0, lr_scale=lr_scale)


def _walk(module: nn.Module, path: str, role: Role, heads: Sequence[nn.Module], head: Optional[int]) -> Iterator[Owned]:
    """Every parameter with its path; a shared one at each place."""
    if isinstance(module, Trunk | Head):
        role = Role.TRUNK if isinstance(module, Trunk) else Role.HEAD
        head = head if module not in heads else heads.index(module)
    for name, parameter in module.named_parameters(recurse=False):
        yield Owned(path + name, parameter, module, role, head)
    for name, child in module.named_children():
        yield from _walk(child, f"{path}{name}.", role, heads, head)


def _trained_heads(module: nn.Module) -> list[nn.Module]:
    """The heads of the model, frozen ones too; not those of a `loss` beside it, which may hold a teacher's copies."""
    if isinstance(module, Head):
        return [module]
    found = [head for name, child in module.named_children() if name != "loss" for head in _heads(child)]
    return list(dict.fromkeys(found))


def _heads(module: nn.Module) -> list[nn.Module]:
    """The heads that are in no other head, in the order of the model."""
    if isinstance(module, Head):
        return [module]
    found = [head for child in module.children() for head in _heads(child)]
    return list(dict.fromkeys(found))


def _layers(module: nn.Module) -> tuple[Mapping[str, int], int]:
    """The depth of every trunk parameter by its path, and the largest number of layers of a trunk."""
    found: dict[str, int] = {}
    last = 0
    for path, part in module.named_modules():
        if isinstance(part, Trunk) and any(parameter.requires_grad for parameter in part.parameters()):
            of_trunk, layers = depths(part, [name for name, _ in part.named_parameters()])
            found.update({f"{path}.{name}" if path else name: depth for name, depth in of_trunk.items()})
            last = max(last, layers)
    return found, last


def _check_names(names: Sequence[str], no_decay: Sequence[str]) -> None:
    parts = sorted({part for name in names for part in name.split(".")})
    for wanted in no_decay:
        if not any(wanted in name for name in names):
            raise ValueError(f"no_decay: no parameter has {wanted!r} in its name{nearest(wanted, parts)}")

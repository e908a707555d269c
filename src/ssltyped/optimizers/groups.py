"""Which parameters are decayed, and with which learning rate: parameter groups by the kind of module they are in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from enum import Enum

from torch import nn

from ssltyped.hints import nearest
from ssltyped.types import Head, ParamGroup, Trunk

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Role(Enum):
    """Whose parameter: by the innermost Trunk or Head around it."""

    TRUNK = "trunk"
    HEAD = "head"
    OTHER = "other"


@dataclasses.dataclass(frozen=True)
class GroupRules:
    """The values of `GroupedOptimizer` that decide the groups; `head_lr_scale` is head_lr / lr."""

    weight_decay: float
    head_weight_decay: float
    head_lr_scale: float
    decay_norm: bool
    decay_bias: bool
    no_decay: Sequence[str]

    def decays(self, name: str, module: nn.Module) -> bool:
        """Whether the parameter `name` (its full path) that `module` owns is decayed."""
        if any(part in name for part in self.no_decay):
            return False
        bias, norm = name.endswith("bias"), isinstance(module, NORMS)
        return (self.decay_bias or not bias) and (self.decay_norm or not norm)


def param_groups(module: nn.Module, rules: GroupRules) -> list[ParamGroup]:
    """The trainable parameters, each once, as at most six groups: {trunk, head, other} x {decay, no_decay}.

    Within a group they keep the order of the network. Raises ValueError if nothing is trainable, or if an entry
    of `no_decay` is in no parameter's name.
    """
    _check_names(module, rules.no_decay)
    groups: dict[tuple[Role, bool], list[nn.Parameter]] = {(r, d): [] for r in Role for d in (True, False)}
    seen: set[nn.Parameter] = set()
    for name, parameter, owner, role in _walk(module, "", Role.OTHER):
        if parameter.requires_grad and parameter not in seen:
            seen.add(parameter)
            groups[role, rules.decays(name, owner)].append(parameter)
    if not seen:
        raise ValueError("no parameter is trainable: everything is frozen, or the model has none")
    return [_group(role, decay, params, rules) for (role, decay), params in groups.items() if params]


def _group(role: Role, decay: bool, params: list[nn.Parameter], rules: GroupRules) -> ParamGroup:
    head = role is Role.HEAD
    weight_decay = rules.head_weight_decay if head else rules.weight_decay
    return ParamGroup(
        name=f"{role.value}.{'decay' if decay else 'no_decay'}",
        params=params,
        weight_decay=weight_decay if decay else 0.0,
        lr_scale=rules.head_lr_scale if head else 1.0,
    )


def _walk(module: nn.Module, path: str, role: Role) -> Iterator[tuple[str, nn.Parameter, nn.Module, Role]]:
    """Every parameter with its path, the module that owns it, and its role; a shared one at each place."""
    if isinstance(module, Trunk | Head):
        role = Role.TRUNK if isinstance(module, Trunk) else Role.HEAD
    for name, parameter in module.named_parameters(recurse=False):
        yield path + name, parameter, module, role
    for name, child in module.named_children():
        yield from _walk(child, f"{path}{name}.", role)


def _check_names(module: nn.Module, no_decay: Sequence[str]) -> None:
    names = [name for name, _ in module.named_parameters()]
    parts = sorted({part for name in names for part in name.split(".")})
    for wanted in no_decay:
        if not any(wanted in name for name in names):
            raise ValueError(f"no_decay: no parameter has {wanted!r} in its name{nearest(wanted, parts)}")

"""Parameter groups: what is decayed and what is not, the layers of the trunk, and parts that learn in their own way."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple, Optional, Self

from annotated_types import Ge, Gt, Len
from torch import nn

from ssltyped.config import config_for, join, refuse
from ssltyped.config.hints import nearest
from ssltyped.optimizers.decay import Decay
from ssltyped.optimizers.layers import depths
from ssltyped.optimizers.rate import Rate
from ssltyped.types import Component, Problem, Scheduler, Trunk, as_named, parameters_of


class Group(Component):
    """Parts of the model or of the loss that learn in their own way: a predictor, prototypes, the last layer, probes.

    Their learning rate rises and falls with that of the rest, unless they have a schedule of their own. A parameter
    may be in one group only. What `freeze` of the experiment names does not learn for ever, or for a while.

    Args:
        parts: modules or parameters, such as "heads.projector", "trunk.layer4", "loss.predictor" or "loss.prototypes".
        lr: peak learning rate of these parts; null: that of the optimizer.
        lr_scale: multiplies it.
        schedule: their learning rate over the run, whose values are inferred from that peak; null: that of the rest.
        weight_decay: their weight decay, which a schedule of it scales like that of the rest; null: the optimizer's.
        decay_norm: whether their normalization layers are decayed; null: as the optimizer's `decay` says.
    """

    def __init__(
        self,
        *,
        parts: Annotated[list[str], Len(1)],
        lr: Optional[Annotated[float, Gt(0)]] = None,
        lr_scale: Annotated[float, Gt(0)] = 1.0,
        schedule: Optional[Scheduler] = None,
        weight_decay: Optional[Annotated[float, Ge(0)]] = None,
        decay_norm: Optional[bool] = None,
    ) -> None:
        self.parts, self.lr, self.lr_scale, self.schedule = parts, lr, lr_scale, schedule
        self.weight_decay, self.decay_norm = weight_decay, decay_norm

    @classmethod
    def peak(cls, config: Self, lr: float) -> float:
        """The highest learning rate of the parts, if that of the rest is `lr`."""
        return (lr if config.lr is None else config.lr) * config.lr_scale

    @property
    def name(self) -> str:
        """What it is called in logs and in the optimizer's state."""
        return ",".join(self.parts)


GroupConf = config_for(Group)


class _Key(NamedTuple):
    """What parameters have in common: the number of their group (-1: the rest), layer and whether they are decayed."""

    group: int
    layer: Optional[int]
    decays: bool

    def name(self, groups: Sequence[Group]) -> str:
        owner = [groups[self.group].name] if self.group >= 0 else []
        layer = [] if self.layer is None else [f"layer{self.layer}"]
        return ".".join([*owner, *layer, "decay" if self.decays else "no_decay"])


def param_groups(
    module: nn.Module, *, rate: Rate, weight_decay: float, decay: Decay, groups: Sequence[Group]
) -> list[dict[str, object]]:
    """The trainable parameters, each once, as a torch optimizer takes them: those of no group first.

    Within {group} x {layer, with layer_decay} x {decay, no_decay} they keep the order of the network. Beside lr and
    weight_decay an entry has its `name`, `lr_scale` and `wd_scale`, which multiply what the schedules say, and
    `schedule`: the name of its group if that has a schedule of its own, or "". Raises ValueError if nothing is
    trainable, for what is wrong with the names (`faults`, `exclude`), or for a trunk without layers to tell apart.
    """
    refuse(faults(module, [group.parts for group in groups]))
    owner = {p: i for i, group in enumerate(groups) for part in group.parts for p in parameters_of(module, part)}
    layers, last = ({}, 0) if rate.layer_decay is None else _layers(module)
    found: dict[_Key, list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    places = list(_places(module))
    for wanted in decay.exclude:
        if not any(wanted in name for name, _, _ in places):
            known = sorted({step for name, _, _ in places for step in name.split(".")})
            raise ValueError(f"decay.exclude: no parameter has {wanted!r} in its name{nearest(wanted, known)}")
    for name, parameter, part in places:
        if parameter.requires_grad and parameter not in seen:
            seen.add(parameter)
            group = owner.get(parameter, -1)
            norm = groups[group].decay_norm if group >= 0 else None
            layer = None if rate.layer_decay is None else layers.get(parameter, last + 1)
            found.setdefault(_Key(group, layer, decay.moves(name, parameter, part, norm)), []).append(parameter)
    if not found:
        raise ValueError("no parameter is trainable: everything is frozen, or the model has none")
    order = sorted(found, key=lambda key: (key.group, key.layer or 0, not key.decays))
    return [{"params": found[key], **_settings(key, rate, weight_decay, groups, last)} for key in order]


def _settings(key: _Key, rate: Rate, weight_decay: float, groups: Sequence[Group], last: int) -> dict[str, object]:
    """What a torch optimizer and the engine read of an entry."""
    own = groups[key.group] if key.group >= 0 else None
    depth = 1.0 if rate.layer_decay is None or key.layer is None else rate.layer_decay ** (last + 1 - key.layer)
    peak = rate.lr if own is None else Group.peak(own, rate.lr)
    scale = 1.0 if own is None else own.lr_scale if own.lr is None else peak / rate.lr
    by_itself = own is not None and own.schedule is not None
    decay = weight_decay if own is None or own.weight_decay is None else own.weight_decay
    return {
        "name": key.name(groups),
        "lr": peak * depth,
        "lr_scale": (1.0 if by_itself else scale) * depth,
        "weight_decay": decay if key.decays else 0.0,
        "wd_scale": decay / (weight_decay or 1.0) if key.decays else 0.0,
        "schedule": own.name if own is not None and by_itself else "",
    }


def faults(module: nn.Module, groups: Sequence[Sequence[str]]) -> Iterator[Problem]:
    """Names in the `parts` of groups that are not there, that do not learn, or that are in an earlier group too."""
    taken: dict[nn.Parameter, int] = {}
    for number, group in enumerate(groups):
        for place, name in enumerate(group):
            path = f"groups.{number}.parts.{place}"
            try:
                parameters = [parameter for parameter in parameters_of(module, name) if parameter.requires_grad]
            except ValueError as error:
                yield Problem(path, str(error))
                continue
            if not parameters:
                yield Problem(path, f"nothing in {name!r} learns: leave it out")
            for other in sorted({taken.setdefault(parameter, number) for parameter in parameters} - {number}):
                yield Problem(path, f"parameters of {name!r} are in groups.{other} too: leave them out of one of both")


def _places(module: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Every parameter with its name and the module that it is of; a shared one at each place."""
    for path, part in module.named_modules(remove_duplicate=False):
        for name, parameter in part.named_parameters(recurse=False):
            yield as_named(join(path, name)), parameter, part


def _layers(module: nn.Module) -> tuple[Mapping[nn.Parameter, int], int]:
    """The depth of every parameter of a trunk that learns, and the largest number of layers of one."""
    found: dict[nn.Parameter, int] = {}
    last = 0
    for part in module.modules():
        if isinstance(part, Trunk) and any(parameter.requires_grad for parameter in part.parameters()):
            names = dict(part.named_parameters())
            of_trunk, layers = depths(part, list(names))
            found.update({names[name]: depth for name, depth in of_trunk.items()})
            last = max(last, layers)
    return found, last

"""Any optimizer of torch.optim by its name."""

import inspect
from collections.abc import Iterable, Iterator
from typing import Annotated, Optional, Self, TypeAlias, cast

import torch
from annotated_types import Ge
from torch import nn

from ssltyped.config import config_for, refuse
from ssltyped.config.hints import nearest
from ssltyped.optimizers.base import GroupedOptimizer
from ssltyped.optimizers.decay import Decay, DecayConf
from ssltyped.optimizers.groups import Group
from ssltyped.optimizers.larc import LARC
from ssltyped.optimizers.rate import Rate, RateConf
from ssltyped.optimizers.zero import MakeOptimizer, Zero
from ssltyped.types import Facts, Problem

Value: TypeAlias = bool | int | float | str | list[float] | None
"""What an argument of an optimizer can be; two betas are a list."""

NOT_THESE = ("LBFGS", "Muon", "Optimizer", "SparseAdam")


class TorchOptimizer(GroupedOptimizer):
    """An optimizer of torch.optim by the name of its class, over the groups that every optimizer here has.

    For Adadelta, Adafactor, Adagrad, Adamax, ASGD, NAdam, RAdam, Rprop and what later versions of torch add; SGD,
    Adam, AdamW and RMSprop are better named themselves, whose options the type checker knows. Not those that need a
    closure or sparse gradients (LBFGS, SparseAdam), or take matrices alone (Muon). Raises ValueError for another name,
    and for arguments that the class does not take or refuses.

    Args:
        name: the class, as "Adagrad".
        args: its arguments by name, beside lr and weight_decay; null: its defaults.
    """

    def __init__(
        self,
        *,
        rate: Rate = RateConf(),
        name: str,
        args: Optional[dict[str, Value]] = None,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        decay: Decay = DecayConf(),
        groups: list[Group] = [],  # noqa: B006  # never changed; a config shows it as a list
        larc: Optional[LARC] = None,
        zero: Optional[Zero] = None,
    ) -> None:
        super().__init__(rate=rate, weight_decay=weight_decay, decay=decay, groups=groups, larc=larc, zero=zero)
        self.name, self.args = name, args
        refuse(self._faults(self))

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from cls._faults(config)

    @classmethod
    def _faults(cls, config: Self) -> Iterator[Problem]:
        """What the class would refuse."""
        known, name, args = _classes(), config.name, config.args or {}
        if name not in known:
            yield Problem("name", f"torch.optim has no {name!r} that works here{nearest(name, list(known))}")
            return
        taken = list(inspect.signature(known[name]).parameters)
        own = [option for option in taken if option not in ("params", "lr", "weight_decay")]
        wrong = [
            Problem(f"args.{key}", "is a field of the optimizer itself: give it there")
            if key in ("lr", "weight_decay")
            else Problem(f"args.{key}", f"{name} has no such argument{nearest(key, own)}")
            for key in args
            if key not in own
        ]
        decays = config.weight_decay > 0 or any(group.weight_decay for group in config.groups)
        if decays and "weight_decay" not in taken:
            wrong.append(Problem("weight_decay", f"{name} has none: set weight_decay=0, of groups too"))
        yield from wrong
        if not wrong:
            try:
                known[name]([nn.Parameter(torch.zeros(1, 1))], lr=0.1, **args)
            except (TypeError, ValueError) as error:
                yield Problem("args", f"{name} refuses {dict(args)}: {error}")

    def torch_optimizer(self) -> tuple[MakeOptimizer, dict[str, object]]:
        return _classes()[self.name], dict(self.args or {})


def _classes() -> dict[str, MakeOptimizer]:
    """The classes of torch.optim that step from dense gradients alone, of parameters of any shape."""
    return {
        name: cast(MakeOptimizer, value)
        for name, value in sorted(vars(torch.optim).items())
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and name not in NOT_THESE
    }


TorchOptimizerConf = config_for(TorchOptimizer)

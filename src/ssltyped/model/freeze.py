"""Parts of the model that do not learn, for ever or for a while."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Optional, Self

from annotated_types import Gt
from torch import nn

from ssltyped.config import config_for
from ssltyped.types import Component, Facts, Inference, Moment, Problem, named, parameters_of


class Freeze(Component):
    """Keeps parameters as they are: for ever, or for the first steps of the run.

    For ever: they take no gradient, and a frozen module stays in eval mode (its BatchNorm too). For some steps: their
    gradient is dropped before the update, so that neither weight decay nor momentum moves them either. SwAV keeps its
    prototypes for the first epoch (Caron et al. 2020, arXiv 2006.09882, appendix A).

    Args:
        parts: modules or parameters of the model or of the loss, such as "trunk", "trunk.layer1" or "loss.prototypes".
        epochs: how long, in passes over the images; null with steps null: for ever.
        steps: how long, in optimizer steps; follows from epochs.
    """

    def __init__(
        self,
        *,
        parts: list[str],
        epochs: Optional[Annotated[float, Gt(0)]] = None,
        steps: Optional[Annotated[int, Gt(0)]] = None,
    ) -> None:
        self.parts, self.epochs, self.steps = parts, epochs, steps

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.epochs is not None and facts.steps_per_epoch:
            steps = max(1, round(config.epochs * facts.steps_per_epoch))
            rule = f"{config.epochs:g} epochs x {facts.steps_per_epoch} steps an epoch"
            yield Inference("steps", steps, rule, source="epochs")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if not config.parts:
            yield Problem("parts", "is empty: name what is frozen, such as trunk")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.steps is not None and facts.steps is not None and config.steps >= facts.steps:
            field = "steps" if config.epochs is None else "epochs"
            yield Problem(field, f"{', '.join(config.parts)} never learns: the run has {facts.steps} steps in all")


FreezeConf = config_for(Freeze)


class Frozen:
    """The parameters of a module of model and loss that are frozen for a while."""

    def __init__(self, module: nn.Module, freezes: Sequence[Freeze]) -> None:
        self._until = [
            (freeze.steps, [p for part in freeze.parts for p in parameters_of(module, part)])
            for freeze in freezes
            if freeze.steps is not None
        ]

    def drop_gradients(self, moment: Moment) -> None:
        """Before the update of a step: parameters whose time is not over are left out of it."""
        for steps, parameters in self._until:
            if moment.step < steps:
                for parameter in parameters:
                    parameter.grad = None


def for_ever(freezes: Sequence[Freeze], *, of_loss: bool = False) -> list[str]:
    """The parts of the model, or of the loss, that never learn."""
    never = [part for freeze in freezes if freeze.steps is None and freeze.epochs is None for part in freeze.parts]
    return [part for part in never if (part.partition(".")[0] == "loss") is of_loss]


def never_learns(freezes: Sequence[Freeze], starts_from_weights: bool) -> Iterable[Problem]:
    """A warning: parts that are frozen for ever, and that nothing gives weights; of configs, by their paths."""
    for number, freeze in enumerate(freezes):
        if freeze.steps is None and freeze.epochs is None and not starts_from_weights:
            names, message = ", ".join(freeze.parts), "never learns, and stays as random as it starts"
            yield Problem(f"freeze.{number}.parts", f"{names} {message}: give epochs or steps, or weights by init")


def hold(module: nn.Module, parts: Sequence[str]) -> None:
    """The parts take no gradient, and modules are in eval mode. Raises ValueError for a name that nothing has."""
    for name in parts:
        part = named(module, name).requires_grad_(False)
        if isinstance(part, nn.Module):
            part.eval()

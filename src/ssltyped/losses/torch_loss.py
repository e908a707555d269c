"""Any loss of `torch.nn` by its name."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Self

from torch import Tensor, nn

from ssltyped.config import INFERRED, config_for, refuse
from ssltyped.config.hints import nearest
from ssltyped.losses.cross_entropy import SupervisedLoss
from ssltyped.types import Facts, Problem, Target


def _compares_two(kind: type[nn.Module]) -> bool:
    """Whether a loss is made without arguments, and computed from an output and a label alone."""
    made = list(inspect.signature(kind).parameters.values())
    needed = [one for one in made if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    return not needed and len(inspect.signature(kind.forward).parameters) == len(("self", "input", "target"))


KNOWN: Mapping[str, type[nn.Module]] = {
    name: kind
    for name, kind in vars(nn.modules.loss).items()
    if isinstance(kind, type) and issubclass(kind, nn.modules.loss._Loss) and not name.startswith("_")
    if _compares_two(kind)
}
"""The losses of `torch.nn.modules.loss` of an output and a label; not those of three tensors (TripletMarginLoss)."""


class TorchLoss(SupervisedLoss):
    """loss = sum over outputs of  torch.nn.<name>(**args)(output, label), averaged as that loss does.

    The label of an image counts for each of its views. Memory and time grow as those of the loss of torch;
    for losses that average over the batch, W ranks give the loss of one process.

    Raises:
        ValueError: an unknown name, an argument that the loss does not take, or a batch without labels.

    Args:
        name: a class of `torch.nn.modules.loss` that compares two tensors, such as SmoothL1Loss.
        args: its arguments.
    """

    def __init__(
        self,
        *,
        heads: list[str] = INFERRED,
        name: str,
        args: dict[str, float | int | bool | str] = {},  # noqa: B006  # never changed
    ) -> None:
        super().__init__()
        self.heads, self.name, self.args = list(heads), name, dict(args)
        refuse(_faults(name, self.args))
        self.loss = KNOWN[name](**self.args)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from _faults(config.name, config.args)

    def of_output(self, output: Tensor, label: Target) -> Tensor:
        loss: Tensor = self.loss(output, label.repeat(len(output) // len(label), *[1] * (label.ndim - 1)))
        return loss


def _faults(name: str, args: Mapping[str, object]) -> Iterable[Problem]:
    if name not in KNOWN:
        yield Problem("name", f"torch.nn has no loss {name!r} of an output and a label{nearest(name, list(KNOWN))}")
        return
    known = [parameter for parameter in inspect.signature(KNOWN[name]).parameters if parameter != "self"]
    for argument in args:
        if argument not in known:
            yield Problem(f"args.{argument}", f"{name} takes no {argument!r}{nearest(argument, known)}")


TorchLossConf = config_for(TorchLoss)

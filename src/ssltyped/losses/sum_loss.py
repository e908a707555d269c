"""Several methods at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Optional, Self

import torch
from annotated_types import Gt, Len
from torch import Tensor, nn

from ssltyped.config import config_for, raised_by, refuse
from ssltyped.config.hints import nearest
from ssltyped.losses.shared_pass import SharedPass
from ssltyped.types import (
    Batch,
    Carry,
    Facts,
    Loss,
    LossRange,
    Model,
    Moment,
    Problem,
    Signals,
    StepOutput,
    can_be_named,
)


class SumLoss(Loss):
    """loss = sum over the parts of  weights[name] x loss of that part.

    Each part reads its own heads; what several ask of the same views is computed in one pass. Logs the loss of each
    part as `<name>` and what the part logs as `<name>.<log>`. Memory and time grow as those of the parts, less the
    passes that they share.

    Args:
        losses: the parts, by name.
        weights: of the parts, by their names; 1 for one that is not named.
        product_of: the part that says which model the sum is for (`Loss.product`); null: the first.
    """

    def __init__(
        self,
        *,
        losses: Annotated[dict[str, Loss], Len(1)],
        weights: dict[str, Annotated[float, Gt(0)]] = {},  # noqa: B006  # never changed; a config shows it
        product_of: Optional[str] = None,
    ) -> None:
        super().__init__()
        self.losses, self.weights, self.product_of = losses, dict(weights), product_of
        refuse(_bad_names(losses))
        self._modules["losses"] = nn.ModuleDict(losses)  # named as the field, which is a dict to a type checker
        self.same_on_all_ranks = tuple(
            f"losses.{name}.{buffer}" for name, loss in losses.items() for buffer in loss.same_on_all_ranks
        )

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from _bad_names(config.losses)
        known = list(config.losses)
        for field, name in [*((f"weights.{name}", name) for name in config.weights), ("product_of", config.product_of)]:
            if name is not None and name not in known:
                yield Problem(field, f"there is no part {name!r}{nearest(name, known)}")

    def setup(self, model: Model) -> None:
        for name, loss in self.losses.items():
            with raised_by(f"losses.{name}"):
                loss.setup(model)

    def on_train_start(self, model: Model, batches: Callable[[], Iterator[Batch]]) -> None:
        for loss in self.losses.values():
            loss.on_train_start(model, batches)

    def on_epoch_start(self, model: Model, moment: Moment) -> None:
        for loss in self.losses.values():
            loss.on_epoch_start(model, moment)

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        shared = SharedPass(model)
        terms: list[Tensor] = []
        logs: dict[str, Tensor] = {}
        carry: dict[str, Tensor] = {}
        signals = Signals()
        ranges: list[Optional[LossRange]] = []
        for name, loss in self.losses.items():
            output = loss.step(shared, batch, moment)
            weight = self.weights.get(name, 1.0)
            terms.append(weight * output.loss)
            ranges.append(None if output.expected is None else output.expected * weight)
            logs |= {name: output.loss.detach(), **{f"{name}.{log}": value for log, value in output.logs.items()}}
            signals += output.signals
            carry |= {f"{name}.{key}": value for key, value in output.carry.items()}
        known = [said for said in ranges if said is not None]
        whole = sum(known[1:], known[0]) if len(known) == len(ranges) else None
        return StepOutput(loss=torch.stack(terms).sum(), logs=logs, carry=carry, expected=whole, signals=signals)

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        for name, loss in self.losses.items():
            own = f"{name}."
            mine = [{k.removeprefix(own): v for k, v in carry.items() if k.startswith(own)} for carry in carries]
            loss.update(model, mine, moment)

    def product(self, model: Model) -> Model:
        return self.losses[self.product_of or next(iter(self.losses))].product(model)


def _bad_names(losses: Iterable[str]) -> Iterator[Problem]:
    """`loss` would be logged in the place of the sum."""
    for name in losses:
        if name == "loss" or not can_be_named(name):
            yield Problem(f"losses.{name}", f"{name!r} cannot be the name of a part: take other letters, digits and _")


SumLossConf = config_for(SumLoss)

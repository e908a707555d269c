"""One meter for each output of a model with several heads."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Optional, Self

from jaxtyping import Float
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.types import Component, Facts, Inference, Meter, Problem, Target


class PerOutput(Component):
    """The same measure of every output of the model, against the same targets.

        {name_0}_{key}: the value `key` of the first output's meter, {name_1}_{key}: of the second's, ...
        {key}: with a single output

    Raises ValueError for names that are not distinct, when used without names, and for another number of outputs.

    Args:
        meter: what measures each output.
        names: one name an output, in their order; null: their numbers.
    """

    def __init__(self, *, meter: Meter, names: Optional[list[str]] = None) -> None:
        self.meter, self.names = meter, names
        if faults := list(_faults(names, None)):
            raise ValueError("; ".join(map(str, faults)))
        self._meters = {name: copy.deepcopy(meter) for name in names or []}

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.names is None and facts.output_dims:
            names = [str(index) for index in range(len(facts.output_dims))]
            yield Inference("names", names, "the number of each output of the model")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.names is None:
            yield Problem("names", "is not set, and the number of the model's outputs is not known: give it")
        yield from _faults(config.names, len(facts.output_dims) or None)

    def update(self, outputs: Sequence[Float[Tensor, "B _"]], target: Target) -> None:
        """One batch: an output a name, rows the same images in each."""
        if len(outputs) != len(self._named()):
            raise ValueError(f"got {len(outputs)} outputs for the names {list(self._meters)}")
        for meter, output in zip(self._meters.values(), outputs, strict=True):
            meter.update(output, target)

    def compute(self) -> dict[str, float]:
        """Over all ranks since `reset`; every rank calls it."""
        found = {name: meter.compute() for name, meter in self._named().items()}
        if len(found) == 1:
            return next(iter(found.values()))
        return {f"{name}_{key}": value for name, values in found.items() for key, value in values.items()}

    def reset(self) -> None:
        """Forget what was seen."""
        for meter in self._meters.values():
            meter.reset()

    def _named(self) -> dict[str, Meter]:
        if self.names is None:
            raise ValueError("names is None: give one an output, or resolve the config first")
        return self._meters


def _faults(names: Optional[list[str]], outputs: Optional[int]) -> Iterator[Problem]:
    """What the types of the constructor cannot say."""
    if names is None:
        return
    if len(set(names)) != len(names):
        yield Problem("names", f"{names} must differ from each other")
    if outputs is not None and len(names) != outputs:
        yield Problem("names", f"{len(names)} names for {outputs} outputs: give one each")


PerOutputConf = config_for(PerOutput)

"""How well do the model's own outputs predict the labels of images that it is not trained on?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

import torch
from annotated_types import Gt, Len

from ssltyped.config import config_for
from ssltyped.meters.per_output import PerOutput
from ssltyped.types import Callback, Facts, Problem, Subset, TrainState


class Validation(Callback):
    """Measures of the model's outputs on `data.val`, in eval mode, without augmentation; logged as `val_<measure>`.

    For methods whose outputs are classes: supervised training, linear evaluation, fine-tuning.

    Args:
        meters: what is measured of each output.
        every_epochs: after every so many epochs, and at the end.
    """

    every_rank = True

    def __init__(self, *, meters: Annotated[list[PerOutput], Len(1)], every_epochs: Annotated[int, Gt(0)] = 1) -> None:
        self.meters, self.every_epochs = meters, every_epochs

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.labelled is False:
            yield Problem("", "needs labels, and data.train or data.val has none: remove this callback, or give labels")

        if facts.pretext:
            yield Problem("", "the model predicts the classes of a pretext task, which data.val has not: remove this")
        if len(facts.inputs) > 1:
            yield Problem("", f"shows the model one image; it reads the inputs {', '.join(facts.inputs)}: remove this")

    def on_epoch_end(self, state: TrainState) -> None:
        if state.step != state.steps and state.epoch % self.every_epochs:
            return
        for meter in self.meters:
            meter.reset()
        with torch.no_grad():
            for outputs, label in state.outputs(Subset.VAL):
                for meter in self.meters:
                    meter.update(outputs, label)
        state.log({f"val_{name}": value for meter in self.meters for name, value in meter.compute().items()})


ValidationConf = config_for(Validation)

"""How well do the model's own outputs predict the labels of images that it is not trained on?"""

import copy
from collections.abc import Iterable
from typing import Annotated, Self, cast

import torch
from annotated_types import Gt, Len

from ssltyped import distributed
from ssltyped.config import INFERRED, MayBeInferred, config_for, part_of
from ssltyped.config.hints import nearest
from ssltyped.data.pipeline import nothing_to_read
from ssltyped.evals.labelled import LabelledCallback
from ssltyped.model.model import SSLModel
from ssltyped.types import Facts, Head, Inference, Meter, Problem, Subset, TrainState


class Validation(LabelledCallback):
    """Measures of the model's outputs on `data.val`, in eval mode, without augmentation.

    Logged as `val_<measure>`, of several heads as `val_<measure>.<head>`; of the outputs of a head that has several as
    `val_<measure>.<head>.<number>`. For methods whose outputs are classes: supervised training, linear evaluation,
    fine-tuning.

    Args:
        meters: what is measured of each output.
        heads: the heads that are measured.
        every_epochs: after every so many epochs, and at the end.
        enabled: whether it runs; null: where there are labels.
    """

    every_rank = True

    def __init__(
        self,
        *,
        meters: Annotated[list[Meter], Len(1)],
        heads: list[str] = INFERRED,
        every_epochs: Annotated[int, Gt(0)] = 1,
        enabled: Annotated[bool, MayBeInferred()] = True,
    ) -> None:
        super().__init__(enabled=enabled)
        self.meters, self.heads, self.every_epochs = meters, list(heads), every_epochs

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield Inference("heads", list(facts.heads), "all heads of the model", default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if not config.enabled:
            return
        for index, name in enumerate(config.heads or []):
            if name not in facts.heads:
                yield Problem(f"heads.{index}", f"the model has no head {name!r}{nearest(name, facts.heads)}")
            for number, meter in enumerate(config.meters):
                kind = cast(type[Meter], part_of(meter).kind)
                for problem in (one for width in set(facts.widths(name)) for one in kind.misfits(meter, width)):
                    yield Problem(f"meters.{number}.{problem.path}", f"{problem.message} in {name}")
        if facts.pretext:
            yield Problem("", "the model predicts the classes of a pretext task, which data.val has not: remove this")
        if len(facts.inputs) > 1:
            yield Problem("", f"shows the model one image; it reads the inputs {', '.join(facts.inputs)}: remove this")

    def on_epoch_end(self, state: TrainState) -> None:
        if state.step != state.steps and state.epoch % self.every_epochs:
            return
        model = state.model
        assert isinstance(model, SSLModel)
        outputs = [(head, i) for head in self.heads for i in range(len(cast(Head, model.heads[head]).out_dims))]
        meters = {place: copy.deepcopy(self.meters) for place in outputs}  # also on a rank that has no images
        images = 0
        for found, label in state.outputs(Subset.VAL):
            images += len(label)
            for (head, number), own in meters.items():
                for meter in own:
                    meter.update(found.all_of(head)[number], label)
        if not int(distributed.all_reduce_max(torch.tensor(images, device=state.device))):
            raise nothing_to_read(Subset.VAL)
        values: dict[str, float] = {}
        for (head, number), own in meters.items():
            several = sum(name == head for name, _ in outputs) > 1
            place = f".{head}" * (len(self.heads) > 1) + f".{number}" * several
            values |= {f"val_{key}{place}": value for meter in own for key, value in meter.compute().items()}
        state.log(values)


ValidationConf = config_for(Validation)

"""What a model makes of all images of a subset, while it trains."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Optional

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.data.pipeline import Data, Report, nothing_to_read
from ssltyped.engine.parallel import Precision, autocast
from ssltyped.engine.settled import BATCHES, Remembered, settled
from ssltyped.model.model import SSLModel, default_feature
from ssltyped.types import Batch, Outputs, Share, Subset, Target

UNKNOWN = -1
"""The label of an image that has none."""


class Evaluation:
    """A model in eval mode on the images of `data`, read once and without augmentation.

    Args:
        model: what is evaluated.
        data: what is read, and how.
        device: where the model is.
        report: gets what could not be read, and is left out.
        batches: if the model has not been trained yet, what it will be trained on: its BatchNorm layers are evaluated
            with the statistics of some of these (`settled`).
        precision: what the forward pass computes in, as in training.
        remembered: statistics that were found before; those that are found now are kept there.
    """

    def __init__(
        self,
        model: SSLModel,
        data: Data,
        device: torch.device,
        report: Report,
        batches: Optional[Callable[[], Iterator[Batch]]] = None,
        precision: Precision = Precision.FP32,
        remembered: Optional[dict[str, Remembered]] = None,
    ) -> None:
        self._precision, self._remembered = precision, {} if remembered is None else remembered
        self._model, self._data, self._device, self._report, self._batches = model, data, device, report, batches

    def features(self, subset: Subset, share: Share = Share.ALL) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "N"]]:
        """The trunk's last feature and the labels, of all images or this rank's share of them (collective)."""
        trunk = self._model.trunk
        name = default_feature(trunk)
        model = self._settled("trunk", lambda model, view: model.extract(view, name))
        features, labels = [], []
        for image, label in self._images(subset, model):
            with torch.no_grad(), autocast(self._precision, self._device):
                features.append(model.extract(image, name).float())
            labels.append(label)
        mine = torch.cat(features) if features else torch.zeros(0, trunk.feature_dims[name], device=self._device)
        known = torch.cat(labels) if labels else torch.zeros(0, dtype=torch.int64, device=self._device)
        if not int(distributed.all_reduce_max(torch.tensor(len(mine)))):
            raise nothing_to_read(subset)
        if share is Share.OWN:
            return mine, known
        return distributed.gather_uneven(mine), distributed.gather_uneven(known)

    def outputs(self, subset: Subset) -> Iterator[tuple[Outputs, Target]]:
        """The model's outputs and the labels, of this rank's share, a batch at a time."""
        model = self._settled("model", lambda model, view: model([view]))
        for image, label in self._images(subset, model):
            with torch.no_grad(), autocast(self._precision, self._device):
                found = model([image])
            heads = {name: tuple(output.float() for output in outputs) for name, outputs in found.heads.items()}
            yield Outputs(heads, found.features), label

    def _settled(self, part: str, run: Callable[[SSLModel, Tensor], object]) -> SSLModel:
        """The model that is evaluated: a copy of one that has not been trained; `part`: what of it is run."""
        if self._batches is None:
            return self._model
        views = (batch.views[0] for batch in islice(self._batches(), BATCHES))
        return settled(self._model, views, run, self._remembered.setdefault(part, Remembered()))

    def _images(self, subset: Subset, model: SSLModel) -> Iterator[tuple[Tensor, Target]]:
        """This rank's images, normalized; the model is in eval mode until the last one."""
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            for batch in self._data.evaluate(
                subset,
                distributed.rank(),
                distributed.world_size(),
                pin_memory=self._device.type == "cuda",
                on_unreadable=self._report,
            ):
                ready = self._data.normalize(batch.to(self._device))
                yield ready.views[0], torch.full_like(ready.index, UNKNOWN) if ready.label is None else ready.label
        finally:
            for module, training in modes:  # each its own: a method may keep parts of it in eval mode
                module.training = training

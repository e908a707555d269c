"""What a model makes of all images of a subset, while it trains."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.data.pipeline import Data, Report
from ssltyped.data.reading import DataError
from ssltyped.model.model import SSLModel, default_feature
from ssltyped.types import Outputs, Subset, Target

UNKNOWN = -1
"""The label of an image that has none."""


class Evaluation:
    """A model in eval mode on the images of `data`, read once and without augmentation.

    Args:
        model: what is evaluated.
        data: what is read, and how.
        device: where the model is.
        report: gets what could not be read, and is left out.
    """

    def __init__(self, model: SSLModel, data: Data, device: torch.device, report: Report) -> None:
        self._model, self._data, self._device, self._report = model, data, device, report

    def features(self, subset: Subset) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "N"]]:
        """The trunk's last feature and the labels, of all images, on every rank (collective)."""
        trunk = self._model.trunk
        name = default_feature(trunk)
        features, labels = [], []
        for image, label in self._images(subset):
            with torch.no_grad():
                features.append(self._model.extract(image, name).float())
            labels.append(label)
        mine = torch.cat(features) if features else torch.zeros(0, trunk.feature_dims[name], device=self._device)
        known = torch.cat(labels) if labels else torch.zeros(0, dtype=torch.int64, device=self._device)
        return distributed.gather_uneven(mine), distributed.gather_uneven(known)

    def outputs(self, subset: Subset) -> Iterator[tuple[Outputs, Target]]:
        """The model's outputs and the labels, of this rank's share, a batch at a time."""
        for image, label in self._images(subset):
            with torch.no_grad():
                found = self._model([image])
            heads = {name: tuple(output.float() for output in outputs) for name, outputs in found.heads.items()}
            yield Outputs(heads, found.features), label

    def _images(self, subset: Subset) -> Iterator[tuple[Tensor, Target]]:
        """This rank's images, normalized; the model is in eval mode until the last one."""
        seen = 0
        modes = [(module, module.training) for module in self._model.modules()]
        self._model.eval()
        try:
            for batch in self._data.evaluate(subset, distributed.rank(), distributed.world_size(), self._report):
                ready = self._data.normalize(batch.to(self._device))
                seen += len(ready.index)
                yield ready.views[0], torch.full_like(ready.index, UNKNOWN) if ready.label is None else ready.label
        finally:
            for module, training in modes:  # each its own: a method may keep parts of it in eval mode
                module.training = training
        if not int(distributed.all_reduce_max(torch.tensor(seen, dtype=torch.int32, device=self._device))):
            raise DataError(
                f"none of the images of data.{subset.value} can be read: see unreadable_rank*.jsonl of the run"
            )

"""The images of one source with the labels of a file."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Integer

from ssltyped.config import config_for
from ssltyped.data.label_file import load_labels
from ssltyped.types import Facts, Image, Problem, Source


class WithOtherLabels(Source):
    """The images of another source; who inherits from it says which labels they have."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> Image:
        return self.source.read(index)

    def name(self, index: int) -> str:
        return self.source.name(index)

    @property
    def remarks(self) -> Sequence[str]:
        return self.source.remarks


class RelabelledSource(WithOtherLabels):
    """Image i of another source, with entry i of a file as its label: clusters, or a teacher's classes.

    The second stage of ClusterFit (Yan et al. 2020, arXiv 1912.03330, section 3.1) trains on the clusters that
    `ClusterLabels` saves. Raises ValueError on first use for a file that is missing, holds no whole numbers, or has
    not one entry an image; a missing file is a mistake that the plan tells.

    Args:
        source: the images; its own labels are not used.
        labels: an .npy of N whole numbers, or text with one a line.
    """

    def __init__(self, *, source: Source, labels: Path) -> None:
        self.source, self.labels = source, labels

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if not Path(config.labels).is_file():
            yield Problem("labels", f"{config.labels} does not exist: give the .npy that ClusterLabels saved")

    def __getstate__(self) -> dict[str, object]:
        return {"source": self.source, "labels": self.labels}  # a memory map pickles as a copy of all it maps

    @functools.cached_property
    def _labels(self) -> Integer[np.ndarray, "N"]:
        return load_labels(self.labels, len(self.source), most_dims=1)

    def label(self, index: int) -> int:
        return int(self._labels[index])


RelabelledSourceConf = config_for(RelabelledSource)

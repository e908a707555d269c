"""Targets of images with several classes, and of classes as rows."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Annotated, Self

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped.config import INFERRED, config_for
from ssltyped.types import Batch, Collator, Facts, Inference, Problem, Random


def target_rows(
    positives: Sequence[Sequence[int]], negatives: Sequence[Sequence[int]], num_classes: int
) -> Int64[np.ndarray, "N K"]:
    """A row an image: 1 for its classes, 0 for those that it surely has not, -1 for what is not known.

    Saved with `numpy.save`, it is the `labels` of an `ImageList`, for `BCELoss`. A class that is both is positive.
    Raises ValueError for a number that is no class.
    """
    rows = np.full((len(positives), num_classes), -1, dtype=np.int64)
    for value, lists in ((0, negatives), (1, positives)):
        for row, classes in zip(rows, lists, strict=True):
            for number in classes:
                if not 0 <= number < num_classes:
                    raise ValueError(f"{number} is no class: there are {num_classes}, from 0")
                row[number] = value
    return rows


def one_hot(label: Int64[Tensor, "B"], num_classes: int, smoothing: float = 0.0) -> Float[Tensor, "B K"]:
    """(1 - smoothing) for the class and smoothing / K for every one."""
    return F.one_hot(label, num_classes).float() * (1 - smoothing) + smoothing / num_classes


class OneHot(Collator):
    """Classes to rows: t_k = (1 - smoothing) [k = y] + smoothing / K, for `BCELoss` or soft targets.

    Raises ValueError for a batch without labels, or whose labels are rows already.

    Args:
        num_classes: K; null: the width of the model's output.
        smoothing: share that is spread over all classes.
    """

    keeps_classes = True

    def __init__(
        self, *, num_classes: Annotated[int, Gt(1)] = INFERRED, smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    ) -> None:
        self.num_classes, self.smoothing = num_classes, smoothing

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if len(widths := facts.distinct_widths) == 1:
            yield Inference("num_classes", widths[0], "width of the model's outputs", default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.train_labelled is False:
            yield Problem("", f"needs labels, and the images to train on have none{facts.why_unlabelled}")
        if not facts.uses_labels:
            yield Problem("", "makes rows of labels, and the method reads none: remove it")
        if len(widths := facts.distinct_widths) > 1 and not config.num_classes:
            yield Problem("num_classes", f"the outputs are {widths} wide: give the number of classes")

    def __call__(self, batch: Batch, random: Random) -> Batch:
        return dataclasses.replace(batch, label=one_hot(classes_of(batch), self.num_classes, self.smoothing))


OneHotConf = config_for(OneHot)


def classes_of(batch: Batch) -> Int64[Tensor, "B"]:
    """The class of each image. Raises ValueError if there is none, or a row in its place."""
    if batch.label is None:
        raise ValueError("the batch has no labels: the images to train on have none")
    if batch.label.ndim != 1 or batch.label.dtype != torch.int64:
        raise ValueError(f"the labels are rows {tuple(batch.label.shape)} already, not classes")
    return batch.label

"""Supervised training: the classes of the folders, or of a list."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, small
from ssltyped import INFERRED
from ssltyped.evals.validation import ValidationConf
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.meters.topk import TopKAccuracyConf


def supervised(dials: Dials = DIGITS) -> Experiment:
    """A linear classifier; with `data.val`, its accuracy there."""
    return small(
        dials,
        loss=CrossEntropyLossConf(),
        heads={"classifier": MLPHeadConf(dims=INFERRED)},
        views=crops(1, size=dials.image_size),
        more=[ValidationConf(meters=[TopKAccuracyConf(topk=[1])], enabled=INFERRED)],
    )


recipe = supervised()

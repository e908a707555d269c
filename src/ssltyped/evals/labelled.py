"""What watches a run by its labels, and so only where there are some."""

from collections.abc import Iterable
from typing import Annotated, Self

from ssltyped.config import MayBeInferred
from ssltyped.types import Callback, Facts, Inference, Problem


class LabelledCallback(Callback):
    """A callback that needs labels: without them it is an error, or left out where `enabled` is left to inference.

    Args:
        enabled: whether it runs; null: where there are labels, so that a recipe of it serves images without labels too.
    """

    needs_val: bool = True
    """Whether it evaluates on `data.val`; one that does not needs the labels of `data.train` alone."""

    def __init__(self, *, enabled: Annotated[bool, MayBeInferred()] = True) -> None:
        self.enabled = enabled

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if why := cls.hindrance(facts):
            yield Inference("enabled", False, f"left out: it needs labels, and {why}", default=True)
        elif cls._labelled(facts):
            yield Inference("enabled", True, "the images have labels", default=True)
        elif facts.num_images is not None:
            yield Inference("enabled", True, "whether the images have labels is not known here", default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.enabled and (why := cls.hindrance(facts)):
            yield Problem("", f"needs labels, and {why}: remove this callback, or give labels")

    @classmethod
    def _labelled(cls, facts: Facts) -> bool | None:
        return facts.labelled if cls.needs_val else facts.train_labelled

    @classmethod
    def hindrance(cls, facts: Facts) -> str:
        """Why it cannot be; empty if it can, or if that is not known here."""
        if cls._labelled(facts) is False:
            return f"{'data.train or data.val' if cls.needs_val else 'data.train'} has none{facts.why_unlabelled}"
        return ""

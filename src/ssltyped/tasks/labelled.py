"""Measures on labelled images: what is learned from, and what is tested on."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import ConfigError, build
from ssltyped.config.component import AnyConfig
from ssltyped.config.hints import listed
from ssltyped.data.held_out import held_out
from ssltyped.data.measured import TrainTestSet
from ssltyped.evals.features import ChosenRows, Features
from ssltyped.tasks.measured import OfTrunk, TrunkState
from ssltyped.types import Facts, Problem

TEST = "test"
"""The salt of the hash that says which images are tested on."""


@dataclasses.dataclass(frozen=True)
class Side:
    """Some of the rows of features, with the classes of their images.

    Args:
        features: all rows.
        places: which of them.
        labels: their classes.
    """

    features: Features
    places: Int64[np.ndarray, "n"]
    labels: Int64[Tensor, "n"]

    @classmethod
    def of(cls, features: Features, places: Int64[np.ndarray, "n"]) -> Self:
        return cls(features, places, torch.from_numpy(np.asarray(features.label[places])))

    def __len__(self) -> int:
        return len(self.places)

    def rows(self, name: str) -> ChosenRows:
        return ChosenRows(self.features[name], self.places)

    def of_rank(self) -> Self:
        """The part of this rank, which lies together on the disk."""
        return type(self).of(self.features, np.array_split(self.places, distributed.world_size())[distributed.rank()])

    def without(self, share: float, salt: str) -> tuple[Self, Self]:
        """What is left, and a share of each class that is held out by a hash of the images' names."""
        names = self.features.path
        held = held_out(self.labels.numpy(), lambda row: str(names[int(self.places[row])]), share, salt)
        return type(self).of(self.features, self.places[~held]), type(self).of(self.features, self.places[held])


class OnLabelled(OfTrunk):
    """A measure of how well features tell the classes of images that were not learned from.

    Args:
        data: labelled images to learn from, and to test on.
    """

    data: TrainTestSet

    @classmethod
    def warnings(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        if config.data.test_source is not None and facts.classes:
            there = set(build(config.data.test_source).classes)
            if lacking := sorted(set(facts.classes) - there):
                yield Problem("data.test_source", f"has no image of {listed(lacking)}, which are learned all the same")

    def _plan_of_test(self) -> str:
        other = self.data.test_images()
        if other is not None:
            return f" to learn from, {len(other):,} others to test on"
        return f", {self.data.test_share:.0%} of each class held out to test on"

    def sides(self, folder: Path) -> tuple[Side, Side]:
        """What is learned from and what is tested on, their features extracted (collective)."""
        other = self.data.test_images()
        sources = {folder / "features" / "images": self.data.images()}
        if other is not None:
            sources[folder / "features" / TEST] = other
        found = [Side.of(one, np.arange(len(one))) for one in self.extracted(sources)]
        train, test = found if len(found) == 2 else found[0].without(self.data.test_share, TEST)
        if not len(test):
            message = "leaves no image to test on: no class has two images"
            raise ConfigError([Problem("data.test_share", message)])
        return train, test

    def title(self, what: str) -> str:
        trained = "" if self.trunk is TrunkState.TRAINED else "an untrained trunk as in "
        return f"{what} of {trained}{self.weights}"


def num_classes_of(train: Side, test: Side) -> int:
    """As many as have a name, or one more than the largest label."""
    return len(train.features.classes) or 1 + int(max(train.labels.max(), test.labels.max()))

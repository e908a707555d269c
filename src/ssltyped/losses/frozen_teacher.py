"""A trained model that only teaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional, Self

import torch
from torch import Tensor, nn

from ssltyped.config import ConfigError, build, config_for
from ssltyped.config.hints import misfits
from ssltyped.model.files import read_weights
from ssltyped.model.model import SSLModel, default_feature, inferred_reads
from ssltyped.types import Component, Facts, Head, Inference, Outputs, Problem, Trunk


class FrozenTeacher(Component, nn.Module):
    """Trunk and head with the weights of a finished run, in eval mode, without gradient.

    Raises:
        ConfigError: a file that holds no weights, or not those of this trunk and this head; what is missing and
            what is left over.

    Args:
        trunk: of the teacher.
        heads: of the teacher, one at the most, whose outputs teach; empty: the feature teaches.
        weights: the `weights.pt` of its run.
        feature: the trunk's feature that teaches where there is no head; null: its last one.
    """

    def __init__(self, *, trunk: Trunk, heads: dict[str, Head], weights: Path, feature: Optional[str] = None) -> None:
        super().__init__()
        self.weights, self.feature = weights, feature
        self.model = SSLModel(trunk=trunk, heads=heads, extra=[] if heads else [feature or default_feature(trunk)])
        self.model.requires_grad_(False)

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        with torch.device("meta"):
            widths = build(config.trunk, "trunk").feature_dims
        yield from inferred_reads(config.heads, widths, "the teacher's trunk")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if not Path(config.weights).is_file():
            yield Problem("weights", f"{config.weights} does not exist: give the weights.pt of the teacher's run")
        if len(config.heads) > 1:
            yield Problem("heads", f"got {', '.join(config.heads)}: give the one that teaches")
        if config.heads and config.feature is not None:
            yield Problem("feature", "has no effect with a head: give the head's own feature")

    @property
    def trunk(self) -> Trunk:
        return self.model.trunk

    @property
    def heads(self) -> Mapping[str, nn.Module]:
        return dict(self.model.heads.items())

    def load(self) -> None:
        """Read the weights; nothing to do on the meta device."""
        if any(parameter.is_meta for parameter in self.model.parameters()):
            return
        try:
            theirs, ours = read_weights(self.weights), self.model.state_dict()
        except ValueError as error:
            raise self._mistake(str(error)) from error
        shapes = ({name: value.shape for name, value in state.items()} for state in (ours, theirs))
        if wrong := misfits(*shapes):
            raise self._mistake("is not of this teacher: " + "; ".join(wrong[:10]))
        self.model.load_state_dict(theirs)

    def _mistake(self, message: str) -> ConfigError:
        """The file is the user's."""
        return ConfigError([Problem("weights", f"{self.weights} {message}")])

    def train(self, mode: bool = True) -> FrozenTeacher:
        return super().train(False)

    @torch.no_grad()
    def forward(self, views: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs of the head, or the feature that teaches."""
        found: Outputs = self.model(views)
        return next(iter(found.heads.values()), tuple(found.features.values()))


FrozenTeacherConf = config_for(FrozenTeacher)

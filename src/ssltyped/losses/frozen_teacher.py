"""A trained model that only teaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional, Self

import torch
from torch import Tensor, nn

from ssltyped.config import ConfigError, build, config_for
from ssltyped.config.hints import brief, misfits
from ssltyped.model.model import SSLModel
from ssltyped.types import Component, Facts, Head, Inference, Problem, Trunk


class FrozenTeacher(Component, nn.Module):
    """Trunk and heads with the weights of a finished run, in eval mode, without gradient.

    Raises:
        ConfigError: a file that holds no weights, or not those of this trunk and these heads; what is missing and
            what is left over.

    Args:
        trunk: of the teacher.
        heads: of the teacher; empty: its features are its outputs.
        weights: the `weights.pt` of its run.
        features: names of the trunk's features that the heads read; null: its last one.
    """

    trunk: Trunk
    heads: list[Head]

    def __init__(self, *, trunk: Trunk, heads: list[Head], weights: Path, features: Optional[list[str]] = None) -> None:
        super().__init__()
        self.model = SSLModel(trunk=trunk, heads=heads, features=features or list(trunk.feature_dims)[-1:])
        self.model.requires_grad_(False)
        self.weights, self.features = weights, features

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        with torch.device("meta"):
            widths = build(config.trunk, "trunk").feature_dims
        if config.features is None:
            yield Inference("features", [list(widths)[-1]], "the last feature of the teacher's trunk")
            return
        names: Sequence[str] = config.features
        for index in range(len(config.heads)):
            name = names[min(index, len(names) - 1)]
            if name in widths:
                yield Inference(f"heads.{index}.in_dim", widths[name], f"width of the teacher's {name}")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if not Path(config.weights).is_file():
            yield Problem("weights", f"{config.weights} does not exist: give the weights.pt of the teacher's run")

    def load(self) -> None:
        """Read the weights; nothing to do on the meta device."""
        if any(parameter.is_meta for parameter in self.model.parameters()):
            return
        theirs, ours = self._read(), self.model.state_dict()
        shapes = ({name: value.shape for name, value in state.items()} for state in (ours, theirs))
        if wrong := misfits(*shapes):
            raise self._mistake("is not of this teacher: " + "; ".join(wrong[:10]))
        self.model.load_state_dict(theirs)

    def _read(self) -> Mapping[str, Tensor]:
        try:
            found = torch.load(self.weights, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever torch's reader makes of the bytes of another kind of file
            raise self._mistake(f"cannot be read as weights: {brief(f'{type(error).__name__}: {error}')}") from error
        if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
            raise self._mistake("holds no tensors by name: give the weights.pt of the teacher's run")
        return found

    def _mistake(self, message: str) -> ConfigError:
        """The file is the user's, and every loss with a teacher has it in this field."""
        return ConfigError([Problem("loss.teacher.weights", f"{self.weights} {message}")])

    def train(self, mode: bool = True) -> FrozenTeacher:
        return super().train(False)

    @torch.no_grad()
    def forward(self, views: Sequence[Tensor]) -> list[Tensor]:
        outputs: list[Tensor] = self.model(views)
        return outputs


FrozenTeacherConf = config_for(FrozenTeacher)

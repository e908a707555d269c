"""Heads in a row."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Optional, Self

import torch
from annotated_types import Gt, Len
from torch import Tensor, nn

from ssltyped.config import INFERRED, build, config_for
from ssltyped.types import Facts, Head, Inference, Problem


class HeadSequence(Head):
    """y = h_n(... h_2(h_1(x))): each head reads what the one before it gives; only the last may have several outputs.

    Raises ValueError for widths that do not follow from one another, or several outputs of another head than the last.

    Args:
        heads: from the first to the last.
        in_dim: width of the feature that the first reads; null: inferred from the trunk.
    """

    def __init__(
        self,
        *,
        heads: Annotated[list[Head], Len(1)],
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim = in_dim
        self.heads = nn.ModuleList(heads)
        self._out_dims = heads[-1].out_dims
        for number, (before, after) in enumerate(pairwise(heads), 1):
            if len(before.out_dims) > 1:
                raise ValueError(f"heads.{number - 1} has {len(before.out_dims)} outputs; only the last head may")
            if after.in_dim != before.out_dim:
                raise ValueError(f"heads.{number} has in_dim {after.in_dim}; heads.{number - 1} gives {before.out_dim}")

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield Inference("heads.0.in_dim", config.in_dim, "width of the feature that the first head reads")
        for number, head in enumerate(list(config.heads)[:-1]):
            try:
                with torch.device("meta"):
                    width = build(head).out_dim
            except ValueError:  # it does not know its own width yet
                return
            yield Inference(f"heads.{number + 1}.in_dim", width, f"width of what heads.{number} gives")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        for number, head in enumerate(config.heads):
            for field in ("feature", "input"):
                if getattr(head, field, None) is not None:
                    yield Problem(f"heads.{number}.{field}", f"has no effect in a row: give {field} of the row itself")

    @property
    def out_dim(self) -> int:
        return self._out_dims[0]

    @property
    def out_dims(self) -> Sequence[int]:
        return self._out_dims

    def forward(self, features: Tensor) -> Tensor | list[Tensor]:
        out: Tensor | list[Tensor] = features
        for head in self.heads:
            out = head(out if isinstance(out, Tensor) else out[0])
        return out


HeadSequenceConf = config_for(HeadSequence)

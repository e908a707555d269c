"""Heads that pass features on: as they are, pooled, of all towers side by side, through several heads in a row."""

from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import pairwise
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Len
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config import INFERRED, build, config_for
from ssltyped.types import Facts, Head, Inference, Problem


class IdentityHead(Head):
    """y = x, of any shape; raises ValueError when built without in_dim.

    Args:
        in_dim: width of the feature that is read, and of the output; null: inferred from the trunk.
    """

    def __init__(
        self, *, in_dim: Annotated[int, Gt(0)] = INFERRED, feature: Optional[str] = None, input: Optional[str] = None
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim = in_dim

    @property
    def out_dim(self) -> int:
        return self.in_dim

    def forward(self, features: Tensor) -> Tensor:
        return features


class Pooling(Enum):
    """The mean or the largest value of each window."""

    AVERAGE = "average"
    MAX = "max"


class PoolHead(Head):
    """(B C h w) -> (B C s t), or one row of C s t values an image: windows of a feature map.

    With `kernel_size` None the windows divide the map into s x t parts (adaptive pooling); else they are of
    kernel_size x kernel_size pixels, `stride` apart, and must come out as s x t. Raises ValueError when built without
    in_dim, or for a map that gives another size.

    Args:
        size: s and t, the height and width of the result; one number for both.
        in_dim: C, channels of the feature; null: inferred from the trunk.
        pooling: mean or maximum.
        kernel_size: side of a window; None: as the map needs.
        stride: pixels between windows; None: kernel_size.
        padding: zeros around the map.
        flatten: one row an image; else the map is kept.
    """

    def __init__(
        self,
        *,
        size: Annotated[int, Gt(0)] | tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]],
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
        pooling: Pooling = Pooling.AVERAGE,
        kernel_size: Optional[Annotated[int, Gt(0)]] = None,
        stride: Optional[Annotated[int, Gt(0)]] = None,
        padding: Annotated[int, Ge(0)] = 0,
        flatten: bool = True,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.pooling, self.flatten = in_dim, pooling, flatten
        self.size = (size, size) if isinstance(size, int) else (size[0], size[1])
        self.kernel_size, self.stride, self.padding = kernel_size, stride or kernel_size, padding

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.kernel_size is None and (config.stride is not None or config.padding):
            yield Problem("stride", "stride and padding have no effect without kernel_size")

    @property
    def out_dim(self) -> int:
        return self.in_dim * self.size[0] * self.size[1]

    def forward(self, features: Float[Tensor, "B C h w"]) -> Tensor:
        average = self.pooling is Pooling.AVERAGE
        if self.kernel_size is None:
            out = (F.adaptive_avg_pool2d if average else F.adaptive_max_pool2d)(features, self.size)
        elif average:
            out = F.avg_pool2d(features, self.kernel_size, self.stride, self.padding)
        else:
            out = F.max_pool2d(features, self.kernel_size, self.stride, self.padding)
        if out.shape[-2:] != self.size:
            got = f"{out.shape[-2]} x {out.shape[-1]}"
            raise ValueError(
                f"pooling a map of {tuple(features.shape[-2:])} gives {got}, not size {self.size[0]} x {self.size[1]}"
            )
        return out.flatten(1) if self.flatten else out


class SiameseConcatHead(Head):
    """(T B, D) -> (B, T D): the features of the T views of an image in one row, in the order of the views.

    Rows come ordered [all B of view 0; all B of view 1; ...]. Jigsaw: Noroozi and Favaro 2016, arXiv 1603.09246,
    section 3.1. Raises ValueError when built without in_dim, or for a number of rows that T does not divide.

    Args:
        num_towers: T, views of an image.
        in_dim: D, width of the feature; null: inferred from the trunk.
    """

    def __init__(
        self,
        *,
        num_towers: Annotated[int, Gt(0)],
        in_dim: Annotated[int, Gt(0)] = INFERRED,
        feature: Optional[str] = None,
        input: Optional[str] = None,
    ) -> None:
        super().__init__(feature=feature, input=input)
        self.in_dim, self.num_towers = in_dim, num_towers

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        inputs = facts.inputs or {"images": facts.num_views}
        if config.num_towers not in inputs.values():
            there = ", ".join(f"{count} of {name!r}" for name, count in inputs.items())
            yield Problem("num_towers", f"got {config.num_towers}; the views of an image are {there}")

    @property
    def out_dim(self) -> int:
        return self.in_dim * self.num_towers

    def forward(self, features: Float[Tensor, "R D"]) -> Float[Tensor, "B E"]:
        if len(features) % self.num_towers:
            raise ValueError(f"{len(features)} rows are no multiple of num_towers={self.num_towers}")
        return features.reshape(self.num_towers, -1, features.shape[1]).transpose(0, 1).flatten(1)


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


SiameseConcatHeadConf = config_for(SiameseConcatHead)
PoolHeadConf = config_for(PoolHead)
IdentityHeadConf = config_for(IdentityHead)
HeadSequenceConf = config_for(HeadSequence)

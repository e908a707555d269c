"""Parts of every type, for the tests of configs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import pytest
from annotated_types import Ge, Gt, Le, Len
from torch import Tensor

from ssltyped.config import ConfigError, check, config_for
from ssltyped.types import Component, Head

if TYPE_CHECKING:
    from decimal import Decimal


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(Component):
    def __init__(self, *, size: Annotated[int, Ge(1), Le(9)] = 1) -> None:
        self.size = size


class OtherLeaf(Leaf):
    def __init__(self, *, colour: Colour = Colour.RED) -> None:
        super().__init__(size=2)
        self.colour = colour


class Strict(Component):
    """Refuses what its types allow."""

    def __init__(self, *, low: float, high: float) -> None:
        if low > high:
            raise ValueError(f"low {low} is above high {high}")
        self.low, self.high = low, high


class Stone(Component):
    """Nothing that a tree wants."""

    def __init__(self, *, weight: float) -> None:
        self.weight = weight


class Tree(Component):
    def __init__(
        self,
        *,
        height: Annotated[float, Gt(0)],
        leaf: Leaf,
        leaves: list[Leaf] = [],  # noqa: B006  # never changed; a config shows it
        best: Optional[Leaf] = None,
        named: dict[str, Leaf] = {},  # noqa: B006
        pair: tuple[int, float] = (1, 2.0),
        sizes: Annotated[list[Annotated[int, Gt(0)]], Len(1)] = [1],  # noqa: B006
        colour: Colour = Colour.RED,
        kind: Literal["oak", "ash"] = "oak",
        folder: Path = Path("x"),
        either: int | str = 3,
        grows: bool = True,
        strict: Optional[Strict] = None,
    ) -> None:
        self.height, self.leaf, self.leaves, self.best, self.named = height, leaf, leaves, best, named
        self.pair, self.sizes, self.colour, self.kind, self.folder = pair, sizes, colour, kind, folder
        self.either, self.grows, self.strict = either, grows, strict


class Positional(Component):
    def __init__(self, size: int = 1, *others: int) -> None: ...


class Untyped(Component):
    def __init__(self, *, size=1) -> None: ...  # type: ignore[no-untyped-def]  # the point of it


class Lazy(Component):
    def __init__(self, *, price: Decimal) -> None: ...


class Bare(Head):
    """Has no constructor but that of `nn.Module`."""

    in_dim = 3

    @property
    def out_dim(self) -> int:
        return 3

    def forward(self, features: Tensor) -> Tensor:
        return features


def oak(*, height: float = 3.0) -> Tree:
    return Tree(height=height, leaf=Leaf())


def small_leaf() -> Leaf:
    return Leaf(size=1)


LeafConf = config_for(Leaf)
LazyConf = config_for(Lazy)
BareConf = config_for(Bare)
OakConf = config_for(oak)
SmallLeafConf = config_for(small_leaf)
OtherLeafConf = config_for(OtherLeaf)
StrictConf = config_for(Strict)
StoneConf = config_for(Stone)
TreeConf = config_for(Tree)


def tree(**fields: object) -> Tree:
    """A config with these fields, of whatever types: what mypy rejects must be caught at run time too."""
    return TreeConf(**{"height": 2.0, "leaf": LeafConf(), **fields})  # type: ignore[arg-type]  # the point of the test


def errors(value: object) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        check(value)
    return {problem.path: problem.message for problem in caught.value.problems}

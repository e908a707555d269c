"""How deep in its trunk a parameter is: what layer-wise learning rates are made from."""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import nn

# blocks.3, layer2, stages.1, stages.1.blocks.0; what is inside a block (mlp.layers.0, blocks.0.block.1) is no block
_BLOCK = re.compile(
    r"(?:.*?\.)??(?:(?:layers?|stages?)\.?\d+\.blocks?\.?\d+|(?:blocks?|layers?|stages?|features)\.?\d+)(?=\.)"
)


@runtime_checkable
class Layered(Protocol):
    """A trunk that says itself how deep its parameters are; without it the names decide (`depths`)."""

    @property
    def num_layers(self) -> int:
        """L: how many layers (blocks, or stages of a convolutional network) follow each other."""
        ...

    def layer_of(self, name: str) -> int:
        """0 for what is before the first layer (patches, tokens, stem), i for layer i, L for what is after."""
        ...


def depths(trunk: nn.Module, names: Sequence[str]) -> tuple[Mapping[str, int], int]:
    """Depth of each parameter of a trunk by its name below the trunk, in 0 .. L, and L.

    A `Layered` trunk is asked. For any other the distinct `blocks.i` (or `layerN`, `stages.N`, `features.N`) are
    counted in the order of the network: the i-th gives depth i, what is before the first (for a vision transformer
    tokens, positions and patches, for a ResNet its stem) depth 0, what is between or after that of the last block
    before it (the final norm: L). A ResNet has L = 4, a vision transformer one layer a block. Raises ValueError if
    there is no such name.
    """
    if isinstance(trunk, Layered):
        return {name: trunk.layer_of(name) for name in names}, trunk.num_layers
    matches = {name: match[0] for name in names if (match := _BLOCK.match(name))}
    found = list(dict.fromkeys(matches.values()))
    # What joins two stages (stages.0.down) is no block of its own where stages have blocks.
    blocks = [block for block in found if not any(other.startswith(f"{block}.") for other in found)]
    if not blocks:
        message = f"layer_decay: {type(trunk).__name__} has no parameter in blocks.i, layerN or stages.N"
        raise ValueError(f"{message}: give it num_layers and layer_of(name), or leave layer_decay out")
    depth, last = {}, 0
    for name in names:
        last = blocks.index(matches[name]) + 1 if matches.get(name) in blocks else last
        depth[name] = last
    return depth, len(blocks)

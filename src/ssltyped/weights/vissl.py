"""How VISSL names the entries of a whole model's state dict, and what stands in the files that it writes."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ssltyped.config.hints import nearest
from ssltyped.model.model import SSLModel
from ssltyped.types import Head, Trunk
from ssltyped.weights.layout import Layout
from ssltyped.weights.vissl_heads import LAYOUTS as HEADS
from ssltyped.weights.vissl_trunks import LAYOUTS as TRUNKS

EVALUATED = "trunk.base_model."
"""What the entries of a trunk start with whose features are pooled for heads."""


class Leaf(NamedTuple):
    """One of VISSL's heads: its path in our model (heads.head.heads.1), in theirs (heads.1), and what they call it."""

    ours: str
    theirs: str
    name: str


@dataclasses.dataclass(frozen=True)
class ModelLayout(Layout):
    """A layout whose names are listed one by one."""

    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def name(self, ours: str) -> str:
        return self.names[ours]


def trunk_layout(trunk: nn.Module) -> Layout:
    """How VISSL lays out a trunk's state dict. Raises ValueError for one that it does not have."""
    name, module = type(trunk).__name__, type(trunk).__module__
    if not isinstance(trunk, Trunk) or name not in TRUNKS or not module.startswith("ssltyped.trunks."):
        raise ValueError(f"{name} is no trunk of VISSL: its names there are not known")
    return TRUNKS[name](trunk)


def model_layout(model: SSLModel, leaves: Sequence[Leaf], trunk_prefix: str = "trunk.") -> ModelLayout:
    """The layout of trunk and heads. Raises ValueError for a head or a trunk whose names there are not known."""
    parts: list[tuple[nn.Module, str, str, Layout]] = [(model.trunk, "trunk.", trunk_prefix, trunk_layout(model.trunk))]
    for leaf in leaves:
        head = model.get_submodule(leaf.ours)
        assert isinstance(head, Head)
        if leaf.name not in HEADS:
            raise ValueError(f"the names of {leaf.name} in VISSL are not known{nearest(leaf.name, sorted(HEADS))}")
        parts.append((head, f"{leaf.ours}.", f"{leaf.theirs}.", HEADS[leaf.name](head)))
    names: dict[str, str] = {}
    dropped: list[str] = []
    shapes: list[tuple[str, tuple[int, ...]]] = []
    extras: dict[str, Tensor] = {}
    for part, ours, theirs, layout in parts:
        for key in part.state_dict():
            names[ours + key] = theirs + layout.name(key)
            dropped += [ours + key] if re.search(layout.dropped, key) else []
            shapes += [(f"^{re.escape(ours + key)}$", shape) for where, shape in layout.shapes if re.search(where, key)]
        extras |= {theirs + key: value for key, value in layout.extras(part).items()}
    only_ours = "|".join(map(re.escape, dropped))
    return ModelLayout(
        names=names, shapes=shapes, extras=lambda model: extras, dropped=f"^({only_ours})$" if dropped else r"(?!)"
    )


def checkpoint_entries(state: object) -> dict[str, Tensor]:
    """The weights of trunk and heads in what a file that VISSL wrote holds, as `trunk.*` and `heads.*`.

    Raises ValueError if it holds something else.
    """
    for step in ("classy_state_dict", "base_model", "model"):
        below = state.get(step) if isinstance(state, dict) else None
        if not isinstance(below, dict):
            found = nearest(step, [str(key) for key in state]) if isinstance(state, dict) else ""
            raise ValueError(f"is no checkpoint of VISSL: it has no {step!r}{found}")
        state = below
    assert isinstance(state, dict)
    return {f"{part}.{key}": value for part in ("trunk", "heads") for key, value in state.get(part, {}).items()}

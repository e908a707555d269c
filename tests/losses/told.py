"""What a loss says about its config, as text."""

from __future__ import annotations

from collections.abc import Mapping

from losses.proofs import facts

from ssltyped import config
from ssltyped.types import Component


def problems(part: Component, **changes: object) -> str:
    """All problems of a part for a run with these facts."""
    return "\n".join(map(str, _kind(part).problems(part, facts(**changes))))


def inferred(part: Component, **changes: object) -> Mapping[str, object]:
    """The values that a part infers."""
    found: dict[str, object] = {}
    for inference in _kind(part).infer(part, facts(**changes)):
        found.setdefault(inference.field, inference.value)
    return found


def _kind(part: Component) -> type[Component]:
    """The class of a component, or of what a config builds."""
    return config.part_of(part).kind if config.is_config(part) else type(part)

"""What a loss says about its config, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from losses.proofs import facts

from ssltyped import config
from ssltyped.types import Component, Facts


def problems(part: Component, outputs: Sequence[int] = (8,), **changes: object) -> str:
    """All problems of a part for a run with these facts, once it knows which head it reads."""
    asked = resolved(part, facts(outputs, **changes))
    return "\n".join(map(str, _kind(part).problems(asked, facts(outputs, **changes))))


def inferred(part: Component, outputs: Sequence[int] = (8,), **changes: object) -> Mapping[str, object]:
    """The values that a part infers, but for the heads that it reads."""
    known, found = facts(outputs, **changes), dict[str, object]()
    asked = resolved(part, known)
    for inference in _kind(part).infer(asked, known):
        if not inference.default or getattr(asked, inference.field) is None:  # else the part's own value stands
            found.setdefault(inference.field, inference.value)
    return {field: value for field, value in found.items() if field not in ("head", "heads")}


def resolved(part: Component, known: Facts) -> Component:
    """The part with the heads that it reads, where it was not said."""
    rows = {i.field: i.value for i in _kind(part).infer(part, known) if i.field in ("head", "heads")}
    left = {field: value for field, value in rows.items() if getattr(part, field) is None}
    return config.replaced(part, left) if config.is_config(part) else part


def _kind(part: Component) -> type[Component]:
    """The class of a component, or of what a config builds."""
    return config.part_of(part).kind if config.is_config(part) else type(part)

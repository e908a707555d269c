"""Check the tensor shapes in signatures while the tests run: `install` first thing, before anything is imported.

The numeric modules only: elsewhere there are no shapes, and beartype does not know pydantic's types.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType

import beartype
import jaxtyping

PARTS = ["trunks", "heads", "losses", "optimizers", "schedulers", "transforms", "meters", "model.model", "evals.knn"]
PARTS += ["evals.retrieval"]
PARTS += ["distributed", "data.decode", "data.digits", "data.sampler", "data.pipeline"]
PARTS += ["data.mixing", "data.targets", "data.reading", "data.image_list", "engine.step", "engine.checkpoint"]


def install() -> None:
    """From now on every import of these modules checks arguments and results against their annotations."""
    modules = [f"ssltyped.{part}" for part in PARTS]
    assert not sys.modules.keys() & set(modules), "too late: already imported"
    jaxtyping.install_import_hook(modules, "shapes.checked")
    setattr(jaxtyping, "jaxtyped", jaxtyped)  # noqa: B010  # the name that the hook writes before a function


def checked(function: Callable[..., object]) -> Callable[..., object]:
    """Checked by beartype, which knows `Self` in whole classes only: the rules of a part, which take no tensors."""
    names_self = any("Self" in str(hint) for hint in getattr(function, "__annotations__", {}).values())
    return function if names_self else beartype.beartype(function)


_of_jaxtyping: Callable[..., object] = jaxtyping.jaxtyped


def jaxtyped(*, typechecker: Callable[..., object]) -> Callable[[object], object]:
    """As jaxtyping's, which binds dimensions to sizes at every call, also of a function that has none: a schedule is
    called a million times. A function without a shape in its signature is checked all the same."""

    def decorate(thing: object) -> object:
        if isinstance(thing, FunctionType) and not any(map(_may_be_a_shape, thing.__annotations__.values())):
            return checked(thing)
        return _of_jaxtyping(thing, typechecker=typechecker)

    return decorate


def _may_be_a_shape(hint: object) -> bool:
    return isinstance(hint, str) or "jaxtyping." in str(hint)

"""Check the tensor shapes in signatures while the tests run: `install` first thing, before anything is imported.

The numeric modules only: elsewhere there are no shapes, and beartype does not know pydantic's types.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FunctionType
from typing import cast

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


_of_jaxtyping = jaxtyping.jaxtyped  # before `install` puts the one below in its place


def jaxtyped(*, typechecker: Callable[..., object]) -> Callable[[object], object]:
    """As jaxtyping's, at a fifth of the price: that checks the arguments twice, and binds them to their names before,
    also where no shape is. A plan calls a schedule 6,000 times, and an image is passed on twenty times."""

    def decorate(thing: object) -> object:
        if not isinstance(thing, FunctionType):
            return _of_jaxtyping(cast(type, thing), typechecker=typechecker)
        has_shapes = any(isinstance(hint, str) or "jaxtyping." in str(hint) for hint in thing.__annotations__.values())
        return one_size_a_letter(checked(thing)) if has_shapes else checked(thing)

    return decorate


def one_size_a_letter(function: Callable[..., object]) -> Callable[..., object]:
    """In a call of it a letter stands for one size, in arguments and result alike."""

    @functools.wraps(function)
    def called(*args: object, **kwargs: object) -> object:
        with _of_jaxtyping("context"):
            return function(*args, **kwargs)

    return called

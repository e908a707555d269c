"""Check the tensor shapes in signatures while the tests run: `install` first thing, before anything is imported.

The numeric modules only: elsewhere there are no shapes, and beartype does not know pydantic's types.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import beartype
from jaxtyping import install_import_hook

PARTS = ["trunks", "heads", "losses", "optimizers", "schedulers", "transforms", "meters", "model.model", "evals.knn"]
PARTS += ["evals.retrieval"]
PARTS += ["distributed", "data.decode", "data.digits", "data.sampler", "data.pipeline"]
PARTS += ["data.mixing", "data.targets", "data.reading", "data.image_list", "engine.step", "engine.checkpoint"]


def install() -> None:
    """From now on every import of these modules checks arguments and results against their annotations."""
    modules = [f"ssltyped.{part}" for part in PARTS]
    assert not sys.modules.keys() & set(modules), "too late: already imported"
    install_import_hook(modules, "shapes.checked")


def checked(function: Callable[..., object]) -> Callable[..., object]:
    """Checked by beartype, which knows `Self` in whole classes only: the rules of a part, which take no tensors."""
    names_self = any("Self" in str(hint) for hint in getattr(function, "__annotations__", {}).values())
    return function if names_self else beartype.beartype(function)

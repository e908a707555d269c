"""Check the tensor shapes in signatures while the tests run: `install` first thing, before anything is imported.

The numeric modules only: elsewhere there are no shapes, and beartype does not know pydantic's types.
"""

from __future__ import annotations

import importlib
import sys
from typing import runtime_checkable

from jaxtyping import install_import_hook

PARTS = ("trunks", "heads", "meters", "losses", "model", "distributed", "sync_batch_norm")


def install() -> None:
    """From now on every import of these modules checks arguments and results against their annotations."""
    modules = [f"ssltyped.{part}" for part in PARTS]
    assert not sys.modules.keys() & set(modules), "too late: already imported"
    install_import_hook(modules, "beartype.beartype")
    runtime_checkable(importlib.import_module("ssltyped.types").Model)  # beartype asks isinstance

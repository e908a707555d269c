"""Check the tensor shapes in signatures while the tests run: `install` first thing, before anything is imported.

The numeric modules only: elsewhere there are no shapes, and beartype does not know pydantic's types.
"""

from __future__ import annotations

import sys

from jaxtyping import install_import_hook

PARTS = ["trunks", "heads", "losses", "optimizers", "schedulers", "transforms", "meters", "model", "evals.knn"]
PARTS += ["evals.retrieval", "evals.average_precision", "evals.pca"]
PARTS += ["distributed", "sync_batch_norm", "data.decode", "data.digits", "data.sampler", "data.pipeline"]
PARTS += ["data.mixing", "data.targets", "data.reading", "data.image_list", "engine.step", "engine.checkpoint"]


def install() -> None:
    """From now on every import of these modules checks arguments and results against their annotations."""
    modules = [f"ssltyped.{part}" for part in PARTS]
    assert not sys.modules.keys() & set(modules), "too late: already imported"
    install_import_hook(modules, "beartype.beartype")

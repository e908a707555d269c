"""A run whose trunk is measured, on images that are not too easy to tell apart."""

from __future__ import annotations

from pathlib import Path

from tiny import PatchesConf, tiny

from ssltyped import launch
from ssltyped.data.measured import TrainTestSet, TrainTestSetConf
from ssltyped.types import Source


def run_in(folder: Path) -> Path:
    """The folder of a run of two steps; one that is there is taken."""
    if not (folder / "tiny" / "weights.pt").exists():
        launch(tiny(output=folder, steps=2))
    return folder / "tiny"


def hard(count: int, *, broken: list[int] | None = None) -> Source:
    return PatchesConf(count=count, contrast=0.3, broken=broken or [])


def labelled(count: int = 60, test: int = 0, batch_size: int = 16) -> TrainTestSet:
    """So many images to learn from, and others to test on (0: a share of the same)."""
    test_source = hard(test) if test else None
    return TrainTestSetConf(source=hard(count), test_source=test_source, num_workers=0, batch_size=batch_size)

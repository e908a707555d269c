"""The shapes of a batch without its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from methods import METHODS
from tiny import tiny_trainer

from ssltyped import config
from ssltyped.data.blank import blank_batch
from ssltyped.resolution import resolve_experiment


@pytest.mark.parametrize("name", ["multicrop_simclr", "ibot", "pirl", "jigsaw", "rotnet"])
def test_it_is_as_the_batches_of_a_run_are(name: str, tmp_path: Path) -> None:
    resolution = resolve_experiment(METHODS[name])
    blank = blank_batch(config.build(resolution.config).data, resolution.facts, 8)
    with tiny_trainer(METHODS[name], tmp_path)._pipeline(0) as batches:
        real = next(batches)
    assert blank.index.is_meta
    assert [view.shape for view in blank.views] == [view.shape for view in real.views]
    assert [mask if mask is None else (mask.shape, mask.dtype) for mask in blank.masks] == [
        mask if mask is None else (mask.shape, mask.dtype) for mask in real.masks
    ]
    pairs = [(blank.label, real.label), (blank.index, real.index)]
    for ours, theirs in pairs:
        assert (ours is None) is (theirs is None)
        assert ours is None or theirs is None or (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)

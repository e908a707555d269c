"""A source with other labels is a part like any other; what it reads is tested with ClusterFit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from tiny import PatchesConf

from ssltyped import config
from ssltyped.data.relabelled import RelabelledSourceConf


def test_it_goes_to_workers_without_its_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.npy"
    np.save(file, np.arange(24))
    source = config.build(RelabelledSourceConf(source=PatchesConf(), labels=file))
    assert source.label(7) == 7
    copy = pickle.loads(pickle.dumps(source))
    assert "_labels" not in vars(copy)
    assert copy.label(7) == 7

"""A source with other labels is a part like any other; what it reads is tested with ClusterFit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny import PatchesConf, tiny

from ssltyped import config, launch
from ssltyped.cli.plan import plan
from ssltyped.config import ConfigError
from ssltyped.data.relabelled import RelabelledSourceConf


def test_it_goes_to_workers_without_its_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.npy"
    np.save(file, np.arange(24))
    source = config.build(RelabelledSourceConf(source=PatchesConf(), labels=file))
    assert source.label(7) == 7
    copy = pickle.loads(pickle.dumps(source))
    assert "_labels" not in vars(copy)
    assert copy.label(7) == 7


def test_missing_labels_are_told_by_plan_and_run(tmp_path: Path) -> None:
    source = RelabelledSourceConf(source=PatchesConf(), labels=tmp_path / "gone.npy")
    asked = tiny(output=tmp_path / "runs", source=source)
    message = r"^data.train.source.labels: .*gone.npy does not exist: give the .npy that ClusterLabels saved$"
    with pytest.raises(ConfigError, match=message):
        plan(asked, "run")
    with pytest.raises(ConfigError, match=message):
        launch(asked)
    assert not list(tmp_path.iterdir())


def test_labels_that_do_not_fit_are_told_by_the_plan(tmp_path: Path) -> None:
    file = tmp_path / "labels.npy"
    np.save(file, np.arange(23))
    with pytest.raises(ConfigError, match=r"holds int64 of shape \(23,\)"):
        plan(tiny(output=tmp_path, source=RelabelledSourceConf(source=PatchesConf(), labels=file)), "run")

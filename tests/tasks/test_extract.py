"""recipes.extract_features: any named feature and output of a head; it goes on, and notices what is another."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from measured import hard

from ssltyped import ConfigError, launch
from ssltyped.data.measured import ImageSetConf
from ssltyped.evals import Features, Pooling
from ssltyped.tasks.extract import ExtractFeaturesConf
from ssltyped.types import Task


def asked(weights: Path, output: Path, *features: str) -> Task:
    data = ImageSetConf(source=hard(20, broken=[3]), num_workers=0, batch_size=8)
    return ExtractFeaturesConf(
        weights=weights, data=data, features=list(features), pooling=Pooling.MEAN, output=output, name="extracted"
    )


def test_features_and_heads_of_a_run(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = launch(asked(weights, tmp_path, "res4", "heads.projector"))
    assert run.metrics == {"images": 19.0, "unreadable": 1.0}
    assert "1 of 20 images cannot be read and are left out" in capsys.readouterr().out
    assert "patches/3.png" in (run.folder / "features" / "unreadable_rank0.jsonl").read_text()
    features = Features(run.folder / "features")
    assert features["res4"].shape == (19, 32)
    assert features["heads.projector"].shape == (19, 8)
    assert features.index[:].tolist() == [i for i in range(20) if i != 3]
    assert features.path[0] == "patches/0.png"
    flat = launch(asked(weights, tmp_path, "flatten")).folder
    assert flat.name == "extracted-2", "another task"
    state = torch.load(weights / "weights.pt", weights_only=True)
    assert state["heads.projector.layers.0.weight"].shape[1] == Features(flat / "features")["flatten"].shape[1]


def test_it_takes_what_is_there_and_refuses_what_other_weights_made(weights: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(weights, tmp_path / "run")
    run = launch(asked(copied, tmp_path, "flatten"))
    (file,) = (run.folder / "features").rglob("flatten.npy")
    before = file.stat().st_mtime_ns
    launch(asked(copied, tmp_path, "flatten"))
    assert file.stat().st_mtime_ns == before
    state = torch.load(copied / "weights.pt", weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, copied / "weights.pt")
    with pytest.raises(ConfigError, match=r"features of something else .weights was"):
        launch(asked(copied, tmp_path, "flatten"))
    assert np.isfinite(np.load(file)).all()

"""What measures share: which weights, how images are read, and a new trunk to compare with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from measured import hard, labelled
from tiny import SIZE

from ssltyped import ConfigError, build, config, launch
from ssltyped.data.measured import ImageSetConf
from ssltyped.evals import Features
from ssltyped.model.model import SSLModel
from ssltyped.tasks.extract import ExtractFeaturesConf
from ssltyped.tasks.knn import KNNEvalConf
from ssltyped.tasks.measured import TrunkState, names_hash, weights_hash
from ssltyped.tasks.running import resolve_task
from ssltyped.transforms.geometry import CenterCropConf, ResizeConf
from ssltyped.trunks.resnet import ResNetConf, Stem


def said(weights: Path, **fields: object) -> str:
    asked = KNNEvalConf(weights=weights, data=labelled(60), ks=[3])
    with pytest.raises(ConfigError) as caught:
        resolve_task(config.replaced(asked, fields))
    return str(caught.value)


def test_images_are_read_as_the_weights_want_them(weights: Path) -> None:
    resolved = resolve_task(KNNEvalConf(weights=weights, data=labelled(60))).config
    assert config.get(resolved, "data.transforms") == [ResizeConf(size=SIZE), CenterCropConf(size=SIZE)]
    assert config.get(resolved, "data.mean") == (0.485, 0.456, 0.406)
    assert config.get(resolved, "features") == ["flatten"]
    own = resolve_task(KNNEvalConf(weights=weights, data=config.replaced(labelled(60), {"mean": (0.1, 0.2, 0.3)})))
    assert config.get(own.config, "data.mean") == (0.1, 0.2, 0.3), "what the user sets stands"


def test_mistakes(weights: Path, tmp_path: Path) -> None:
    assert "features: give at least one" in said(weights, features=[])
    assert "features: an untrained trunk has no heads" in said(
        weights, features=["heads.projector"], trunk=TrunkState.UNTRAINED
    )
    assert "data.mean: has 1 values, and the weights are for 3 channels" in said(weights, **{"data.mean": (0.5,)})
    assert "data.std: is (0.0, 1.0, 1.0); it must be above 0" in said(weights, **{"data.std": (0.0, 1.0, 1.0)})
    assert "end with a crop" in said(weights, **{"data.transforms": []})
    assert f"weights: {tmp_path}/no does not exist" in said(tmp_path / "no")


def test_weights_that_do_not_fill_the_trunk_are_refused(weights: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(weights, tmp_path / "run")
    state = torch.load(copied / "weights.pt", weights_only=True)
    state.pop(next(name for name in state if name.startswith("trunk.")))
    torch.save(state, copied / "weights.pt")
    with pytest.raises(ConfigError, match=r"weights: does not fill the part: .*119 of 120 tensors"):
        launch(KNNEvalConf(weights=copied, data=labelled(60), ks=[3], output=tmp_path), name="knn")


def test_an_untrained_trunk_is_new_and_settled(weights: Path, tmp_path: Path) -> None:
    """Drawn by the seed; its BatchNorm layers know the images, so that features have about deviation 1 inside."""
    data = ImageSetConf(source=hard(24), num_workers=0, batch_size=8)
    asked = ExtractFeaturesConf(
        weights=weights, data=data, trunk=TrunkState.UNTRAINED, features=["res2", "flatten"], output=tmp_path
    )
    rows = [np.asarray(Features(launch(asked, name="u").folder / "features")["flatten"])]
    for change in ("seed=1", "trunk=trained"):
        rows.append(np.asarray(Features(launch(asked, [change], name="u").folder / "features")["flatten"]))
    assert all(not np.allclose(rows[0], other) for other in rows[1:])
    torch.manual_seed(0)
    new = SSLModel(trunk=build(ResNetConf(depth=18, width_multiplier=0.125, stem=Stem.SMALL)), heads={}).eval()
    source = build(hard(24))
    images = torch.stack([source.read(i)[:, :16, :16] for i in range(24)]).float() / 255
    assert not np.allclose(new.extract(images, "flatten").detach().numpy(), rows[0], atol=1e-2), "statistics of 0 and 1"
    assert (tmp_path / "u").is_dir()


def test_hashes_know_values_names_and_order() -> None:
    layers = [torch.nn.Linear(2, 2, bias=False) for _ in range(2)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(torch.arange(4.0).reshape(2, 2))
    assert weights_hash(layers[0]) == weights_hash(layers[1])
    with torch.no_grad():
        layers[1].weight[0, 0] = 5
    assert weights_hash(layers[0]) != weights_hash(layers[1])
    assert names_hash(build(hard(5))) == names_hash(build(hard(5))) != names_hash(build(hard(6)))

"""Callbacks that need labels: where there are none they are an error, or left out where a recipe leaves it open."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import PatchesConf, tiny

from ssltyped import INFERRED, launch
from ssltyped.config import ConfigError, get, replaced
from ssltyped.data.splits import EvalSplitConf
from ssltyped.evals.online_knn import KNNConf
from ssltyped.evals.validation import ValidationConf
from ssltyped.experiment import Experiment
from ssltyped.meters.topk import TopKAccuracyConf
from ssltyped.resolution import resolve_experiment
from ssltyped.transforms.geometry import CenterCropConf
from ssltyped.types import Callback

OPEN = [KNNConf(k=3, enabled=INFERRED), ValidationConf(meters=[TopKAccuracyConf(topk=[1])], enabled=INFERRED)]


def asked(callback: Callback, *, train: bool, val: bool, folder: Path = Path("runs")) -> Experiment:
    found = tiny(output=folder, steps=1, source=PatchesConf(has_labels=train), evaluated=True, callbacks=[callback])
    return replaced(found, {"data.val.source": PatchesConf(count=10, has_labels=val)})


@pytest.mark.parametrize("callback", OPEN)
@pytest.mark.parametrize(("train", "val"), [(True, True), (True, False), (False, True), (False, False)])
def test_left_open_it_follows_the_labels(callback: Callback, train: bool, val: bool) -> None:
    resolution = resolve_experiment(asked(callback, train=train, val=val))
    assert get(resolution.config, "callbacks.0.enabled") is (train and val)
    (row,) = [row for row in resolution.rows if row.field == "callbacks.0.enabled"]
    assert ("has none (Patches gives no labels)" in row.rule) is not (train and val)


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_said_stands(enabled: bool) -> None:
    found = asked(KNNConf(k=3, enabled=enabled), train=False, val=True)
    if enabled:
        with pytest.raises(ConfigError, match=r"callbacks\.0: needs labels, and data\.train or data\.val has none"):
            resolve_experiment(found)
    else:
        assert get(resolve_experiment(found).config, "callbacks.0.enabled") is False


def test_one_that_is_left_out_does_nothing(tmp_path: Path) -> None:
    with_labels = launch(asked(OPEN[0], train=True, val=True, folder=tmp_path / "with"))
    without = launch(asked(OPEN[0], train=False, val=True, folder=tmp_path / "without"))
    assert "knn_top1" in with_labels.metrics
    assert "knn_top1" not in without.metrics


def test_a_recipe_without_images_to_evaluate_on() -> None:
    """A recipe's sample goes with its own images only; what it says of reading them stays."""
    found = asked(OPEN[0], train=True, val=True)
    val = EvalSplitConf(sample=PatchesConf(count=10), transforms=[CenterCropConf(size=16)])
    on_its_own = replaced(found, {"data.val": val, "data.train.source": None, "data.train.sample": PatchesConf()})
    resolution = resolve_experiment(on_its_own)
    assert get(resolution.config, "callbacks.0.enabled") is True
    assert get(resolution.config, "data.val.source") == PatchesConf(count=10)
    on_others = replaced(found, {"data.val": val, "data.train.source": PatchesConf(count=32)})
    resolution = resolve_experiment(on_others)
    assert get(resolution.config, "callbacks.0.enabled") is False
    assert get(resolution.config, "data.val.source") is None
    assert any("data.val has no images" in row.rule for row in resolution.rows)

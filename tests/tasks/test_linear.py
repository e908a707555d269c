"""recipes.evals.linear: trained on some images, decided by others, measured on third ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from measured import labelled

from ssltyped import launch
from ssltyped.config import ConfigError
from ssltyped.data.held_out import held_out
from ssltyped.evals import Features
from ssltyped.tasks.linear import HELD_OUT, LinearEvalConf


@pytest.mark.usefixtures("forked_ranks")
def test_three_sets_of_images_and_the_chosen_setting(weights: Path, tmp_path: Path) -> None:
    asked = LinearEvalConf(
        weights=weights, data=labelled(80), features=["res4", "flatten"], epochs=5, batch_size=16, output=tmp_path
    )
    run = launch(asked, name="linear")
    assert set(run.metrics) == {"linear_top1.res4", "linear_top1.flatten"}
    content = json.loads((run.folder / "linear.json").read_text())
    assert content["about"] == {
        "images": 56, "held out": 8, "test images": 16, "classes": 4, "epochs": 5
    }  # fmt: skip
    for figure in content["figures"]:
        assert figure["setting"]["lr"] in asked.lrs
        assert figure["setting"]["weight_decay"] in asked.weight_decays
        assert figure["value"] == run.metrics[f"linear_top1.{figure['setting']['feature']}"]
    assert max(run.metrics.values()) > 50, "of 4 classes"
    two = launch(asked, ["distributed.num_procs=2"], name="two")
    assert two.metrics == run.metrics


def test_too_few_images_to_decide_by_are_an_error(weights: Path, tmp_path: Path) -> None:
    """Two images of each class: one is tested on, and none of one is left over."""
    with pytest.raises(ConfigError, match=r"held_out_share: 0\.1 of the images of each class leaves none to decide by"):
        launch(LinearEvalConf(weights=weights, data=labelled(8), epochs=1, output=tmp_path), name="few")


def test_what_decides_is_none_of_what_is_tested(weights: Path, tmp_path: Path) -> None:
    """By the names of the images: two choices by two salts, the second among what the first has left."""
    run = launch(LinearEvalConf(weights=weights, data=labelled(80), epochs=1, output=tmp_path), name="linear")
    features = Features(run.folder / "features" / "images")
    labels, names = np.asarray(features.label), np.asarray(features.path)
    test = held_out(labels, names.__getitem__, 0.2, "test")
    decides = held_out(labels[~test], names[~test].__getitem__, 0.1, HELD_OUT)
    assert (test.sum(), decides.sum()) == (16, 8)
    assert not set(names[test]) & set(names[~test][decides])

"""recipes.evals.knn: the number that a few lines by hand give, on one process or two, on what was held out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from measured import hard, labelled
from torch.nn import functional as F

from ssltyped import ConfigError, build, launch
from ssltyped.data.held_out import held_out
from ssltyped.evals.knn import knn_accuracy
from ssltyped.run import main
from ssltyped.tasks.knn import KNNEvalConf
from ssltyped.tasks.running import resolve_task
from ssltyped.weights.pretrained import pretrained


def by_hand(weights: Path, k: int, count: int = 60) -> float:
    """Features by the trunk that torch loads, one image after the other."""
    trunk = build(pretrained(weights).trunk).eval()
    state = torch.load(weights / "weights.pt", weights_only=True)
    trunk.load_state_dict({n.removeprefix("trunk."): w for n, w in state.items() if n.startswith("trunk.")})
    source = build(hard(count))
    labels = torch.tensor([int(source.label(i)) for i in range(count)])  # type: ignore[arg-type]  # no rows
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    rows = []
    for index in range(count):
        # 20 x 20 pixels with the shorter side at 16
        pixels = F.interpolate(source.read(index)[None].float(), size=(16, 16), mode="area")
        with torch.no_grad():
            (feature,) = trunk((pixels / 255 - mean[:, None, None]) / std[:, None, None], ["flatten"])
        rows.append(feature.flatten())
    features = torch.stack(rows)
    test = torch.from_numpy(held_out(labels.numpy(), source.name, 0.2, "test"))
    return knn_accuracy(
        features[~test], labels[~test], features[test], labels[test], k=k, temperature=0.07, num_classes=4
    )["top1"]


@pytest.mark.usefixtures("forked_ranks")
def test_it_is_the_number_by_hand_and_that_of_two_processes(weights: Path, tmp_path: Path) -> None:
    asked = KNNEvalConf(weights=weights, data=labelled(60), ks=[1, 5], output=tmp_path)
    one = launch(asked, name="knn")
    # OpenCV's area resize rounds to 8 bits: a neighbour may change places.
    for k in (1, 5):
        assert one.metrics[f"knn_top1.flatten.k{k}"] == pytest.approx(by_hand(weights, k), abs=100 / 12 + 1e-6)
    two = launch(asked, ["distributed.num_procs=2"], name="two")
    assert two.metrics == one.metrics
    content = json.loads((one.folder / "knn.json").read_text())
    assert content["about"] == {"images": 48, "test images": 12, "classes": 4, "temperature": 0.07}
    (first, _) = content["figures"]
    assert first["setting"] == {"feature": "flatten", "k": 1}
    assert first["low"] < first["value"] == one.metrics["knn_top1.flatten.k1"] < first["high"]
    assert (one.folder / "knn.png").read_bytes().startswith(b"\x89PNG")


def test_images_to_test_on_and_several_features(weights: Path, tmp_path: Path) -> None:
    asked = KNNEvalConf(
        weights=weights, data=labelled(40, test=10), features=["res3", "flatten"], ks=[3], output=tmp_path
    )
    run = launch(asked, name="knn")
    assert set(run.metrics) == {"knn_top1.res3.k3", "knn_top1.flatten.k3"}
    assert json.loads((run.folder / "knn.json").read_text())["about"]["test images"] == 10


def test_k_that_fit_the_images(weights: Path) -> None:
    for count, ks in [(4, [1]), (60, [10]), (500, [10, 20, 100]), (1000, [10, 20, 100, 200])]:
        resolved = resolve_task(KNNEvalConf(weights=weights, data=labelled(count))).config
        assert isinstance(resolved, type(KNNEvalConf(weights=weights, data=labelled(count))))
        assert resolved.ks == ks
    with pytest.raises(ConfigError, match=r"ks\.1: got 61: there are only 60 images"):
        resolve_task(KNNEvalConf(weights=weights, data=labelled(60), ks=[3, 61]))


def test_the_command_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["recipes.evals.knn", f"weights={weights}", f"output={tmp_path}", "data.num_workers=0"]
    images = ["data.source=tiny:Patches", "data.source.count=30"]
    assert main([*command, *images, "ks=[2]"]) == 0
    out = capsys.readouterr().out
    assert "kNN accuracy of" in out
    assert "120 of 120 tensors, 100.0% of the parameters" in out
    assert f"done: {tmp_path}/knn  knn_top1.flatten.k2" in out
    assert main([*command, *images, "data.source.has_labels=false", "features=[flaten]", "trunk=new"]) == 2
    assert "trunk: got 'new': input should be 'trained' or 'untrained'" in capsys.readouterr().err
    assert main([*command, *images, "data.source.has_labels=false", "features=[flaten]"]) == 2
    err = capsys.readouterr().err
    assert "features.0: there is no feature 'flaten'; did you mean 'flatten'?" in err
    assert "data.source: needs labels, and there are none (Patches gives no labels)" in err
    assert main([*command, "data.path=/no/where"]) == 2
    assert "data.path: /no/where does not exist" in capsys.readouterr().err
    assert np.array_equal(sorted(file.name for file in tmp_path.iterdir()), ["knn"])

"""The small recipes: one for each method, each runs as it stands and on other images; what follows from these."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest
from tiny import TORCHRUN

from recipes.small.base import Dials
from recipes.small.clusterfit import clusterfit
from recipes.small.clusterfit_clusters import clusterfit_clusters
from recipes.small.distillation import distillation
from recipes.small.moco import moco
from recipes.small.supervised import supervised
from recipes.small.swav import swav
from ssltyped import launch
from ssltyped.cli.recipe import load_recipe, shipped
from ssltyped.config import ConfigError, get, part_of, replaced
from ssltyped.config.overrides import override
from ssltyped.experiment import Experiment
from ssltyped.resolution import resolve_experiment
from ssltyped.run import main

NAMES = [name.removeprefix("recipes.small.") for name in shipped() if name.startswith("recipes.small.")]
AFTER = {"clusterfit": "data.train.labels", "distillation": "loss.teacher.weights"}
"""Those that go on from a run of another one, and the field that names what it left."""
QUICK = Dials(batch_size=20, epochs=1, width=1 / 16)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def made(name: str, dials: Dials = QUICK) -> Experiment:
    recipe: Experiment = getattr(importlib.import_module(f"recipes.small.{name}"), name)(dials)
    return recipe


def write_images(folder: Path, count: int) -> None:
    import cv2

    folder.mkdir(parents=True)
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)


def test_every_method_has_one() -> None:
    """Those of the table of README."""
    assert set(NAMES) == {
        *("simclr", "multicrop_simclr", "moco", "moco_v1", "swav", "swav_queue", "swav_momentum", "deepcluster_v2"),
        *("npid", "npid_plus_plus", "pirl", "barlow_twins", "dino", "ibot", "msn", "jigsaw", "rotnet"),
        *("clusterfit_clusters", "clusterfit", "distillation", "supervised"),
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name not in AFTER])
def test_nothing_in_it_is_unwise_and_it_trains(name: str) -> None:
    """As it stands, without a warning; and two steps of it with a thin trunk."""
    resolve_experiment(load_recipe(f"recipes.small.{name}"), name, strict=True)
    run = launch(override(made(name), ["epochs=null", "steps=2", "data.train.num_workers=0", "callbacks=[]"]))
    assert np.isfinite(run.metrics["loss"])


@pytest.mark.parametrize("name", AFTER)
def test_one_that_goes_on_from_another_says_so(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_experiment(made(name), name)
    assert [problem.path for problem in caught.value.problems] == [AFTER[name]]
    assert "does not exist" in str(caught.value)


def test_clusterfit_learns_the_clusters_and_is_judged_by_the_labels() -> None:
    few = ["data.train.num_workers=0", "epochs=1"]
    first = launch(
        override(clusterfit_clusters(QUICK), [*few, "callbacks.7.num_clusters=7"]), name="clusterfit_clusters"
    )
    clusters = np.load(first.folder / "cluster_labels.npy")
    assert set(clusters.tolist()) <= set(range(7))
    resolution = resolve_experiment(override(clusterfit(QUICK), few), "clusterfit")
    assert get(resolution.config, "heads.classifier.dims") == [int(clusters.max()) + 1]
    second = launch(override(clusterfit(QUICK), few), name="clusterfit")
    assert second.metrics["knn_top1"] > 10, "of ten digits, whose labels are not those of the clusters"


def test_distillation_follows_swav() -> None:
    few = ["data.train.num_workers=0", "epochs=null", "steps=2", "callbacks=[]"]
    launch(override(swav(QUICK), few), name="swav")
    assert np.isfinite(launch(override(distillation(QUICK), few), name="distillation").metrics["loss"])


def test_what_follows_from_the_images_and_the_steps() -> None:
    """1,400 digits in steps of 100: a queue of 300; 280 steps leave 1 % of the key encoder at 0.01^(1/280)."""
    resolved = resolve_experiment(moco(), "moco").config
    assert get(resolved, "loss.queue_size") == 300
    assert get(resolved, "loss.momentum") == pytest.approx(0.01 ** (1 / 280), abs=1e-4)
    assert get(resolved, "optimizer.rate.lr") == pytest.approx(3e-3)
    longer = resolve_experiment(moco(dataclasses.replace(Dials(), epochs=400)), "moco").config
    assert get(longer, "loss.momentum") == 0.999, "the paper's, where the run is long enough for it"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in AFTER and name != "supervised"])
def test_on_images_without_labels(name: str, tmp_path: Path) -> None:
    """The same recipe, nothing else changed: no evaluation, and what follows from the number of images follows."""
    write_images(tmp_path / "mine", 60)
    asked = replaced(made(name), {"data.train.path": tmp_path / "mine"})
    resolution = resolve_experiment(asked, name)
    assert get(resolution.config, "data.train.num_images") == 60
    knn = next(place for place, one in enumerate(asked.callbacks) if hasattr(one, "at_start"))
    assert get(resolution.config, f"callbacks.{knn}.enabled") is False


@pytest.mark.parametrize("name", [name for name in NAMES if name not in AFTER])
def test_on_labelled_images_without_others_to_judge_by(name: str, tmp_path: Path) -> None:
    """As README has it: folders of classes, no data.val; and with one that has no labels."""
    for number in range(2):
        write_images(tmp_path / "mine" / f"class {number}", 40)
    for val in ([], [f"data.val.path={tmp_path / 'mine' / 'class 0'}"]):
        resolved = resolve_experiment(override(made(name), [f"data.train.path={tmp_path / 'mine'}", *val]), name).config
        place = next(n for n, one in enumerate(resolved.callbacks) if part_of(one).name == "LinearProbe")
        assert get(resolved, f"callbacks.{place}.every_epochs") == 0


def test_own_images_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With labels and without, and what cannot be: a method that learns the labels of images that have none."""
    write_images(tmp_path / "mine" / "ant", 20)
    write_images(tmp_path / "mine" / "bee", 20)
    few = [
        "data.train.batch_size=8",
        "epochs=null",
        "steps=2",
        "data.train.num_workers=0",
        "trunk.width_multiplier=0.0625",
    ]
    path = f"data.train.path={tmp_path / 'mine'}"
    assert main(["recipes.small.supervised", path, f"data.val.path={tmp_path / 'mine'}", *few, "callbacks.5.k=3"]) == 0
    out = capsys.readouterr().out
    assert "val_top1" in out
    assert "knn_top1" in out
    assert main(["recipes.small.simclr", path, *few]) == 0
    assert "knn_top1" not in capsys.readouterr().out
    assert main(["recipes.small.supervised", f"data.train.path={tmp_path / 'mine' / 'ant'}", *few]) == 2
    assert "needs labels" in capsys.readouterr().err


def test_supervised_knows_its_classes() -> None:
    assert get(resolve_experiment(supervised(), "supervised").config, "heads.classifier.dims") == [10]

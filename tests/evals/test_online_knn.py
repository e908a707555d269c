"""kNN while training: when it evaluates, on what, and what it needs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from facts import FACTS
from ranks import run_on_ranks
from tiny import PatchesConf, tiny, tiny_trainer
from torch import Tensor
from watched import Watched

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.overrides import override
from ssltyped.data.pipeline import iterate
from ssltyped.engine.callbacks.metrics_file import MetricsFileConf
from ssltyped.evals.knn import knn_accuracy
from ssltyped.evals.online_knn import KNN, KNNConf
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, Subset

BATCH = Batch(views=(), index=torch.tensor([0]))


def test_a_tenth_of_the_epochs() -> None:
    for epochs, every in [(100, 10), (25, 2), (5, 1), (1, 1)]:
        (inferred,) = KNN.infer(KNNConf(), dataclasses.replace(FACTS, epochs=epochs))
        assert (inferred.field, inferred.value) == ("every_epochs", every)
    assert not list(KNN.infer(KNNConf(), FACTS)), "not while the epochs are not known"
    (inferred,) = KNN.infer(KNNConf(every_epochs=3), dataclasses.replace(FACTS, epochs=100))
    assert inferred.default, "another number of the user's stands"


def test_needs_labels() -> None:
    (problem,) = KNN.problems(KNNConf(), dataclasses.replace(FACTS, labelled=False))
    assert "needs labels" in str(problem)
    for known in (True, None):
        assert not list(KNN.problems(KNNConf(), dataclasses.replace(FACTS, labelled=known)))


def test_needs_one_class_an_image() -> None:
    (problem,) = KNN.problems(KNNConf(), dataclasses.replace(FACTS, labelled=True, num_labels=3, label_rows=True))
    assert "needs one class an image, and the labels of data.train are rows" in str(problem)


def test_needs_as_many_images_as_vote() -> None:
    (problem,) = KNN.problems(KNNConf(k=21), dataclasses.replace(FACTS, num_images=20))
    assert str(problem) == "k: got 21: data.train has only 20 images"
    assert not list(KNN.problems(KNNConf(k=20), dataclasses.replace(FACTS, num_images=20)))


def test_a_recipe_without_labels_is_not_started() -> None:
    unlabelled = tiny(source=PatchesConf(has_labels=False), evaluated=True, callbacks=[KNNConf(k=3)])
    without_val = tiny(evaluated=False, callbacks=[KNNConf(k=3)])
    for asked in (unlabelled, without_val):
        with pytest.raises(ConfigError, match=r"callbacks.0: needs labels"):
            resolve_experiment(asked)
    resolved = resolve_experiment(tiny(evaluated=True, callbacks=[KNNConf(k=3)]))
    assert config.get(resolved.config, "callbacks.0.every_epochs") == 1


def subset(classes: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return torch.eye(16)[labels] + 0.5 * torch.randn(count, 16, generator=generator), labels


@pytest.mark.parametrize(("classes", "names"), [(4, {"knn_top1"}), (5, {"knn_top1"}), (6, {"knn_top1", "knn_top5"})])
def test_what_is_logged(classes: int, names: set[str], tmp_path: Path) -> None:
    """top5 of at most five classes says nothing."""
    subsets = {Subset.TRAIN: subset(classes, 30, 0), Subset.VAL: subset(classes, 20, 1)}
    state = Watched(folder=tmp_path, step=6, subsets=subsets)
    KNN(every_epochs=1, k=3).on_epoch_end(state)
    assert set(state.metrics) == names
    wanted = knn_accuracy(*subsets[Subset.TRAIN], *subsets[Subset.VAL], k=3, temperature=0.07, num_classes=classes)
    assert state.metrics["knn_top1"] == wanted["top1"]
    assert 30 < wanted["top1"] < 100, "neither chance nor too easy to tell apart"


def test_with_fewer_images_than_k_all_of_them_vote(tmp_path: Path) -> None:
    """24 images, one of which is broken: 23 vote, which is told."""
    asked = tiny(epochs=1, evaluated=True, source=PatchesConf(broken=[5]), callbacks=[KNNConf(k=24)])
    trainer = tiny_trainer(asked, tmp_path)
    trainer.fit()
    sides = [*trainer.features(Subset.TRAIN), *trainer.features(Subset.VAL)]
    wanted = knn_accuracy(*sides, k=23, temperature=0.07, num_classes=4)
    assert len(sides[0]) == 23
    assert trainer.metrics["knn_k"] == 23
    assert trainer.metrics["knn_top1"] == pytest.approx(wanted["top1"])


@pytest.mark.parametrize(("at_start", "start", "when"), [(True, 0, [0, 6, 7]), (False, 0, [6, 7]), (True, 3, [6, 7])])
def test_when(at_start: bool, start: int, when: list[int], tmp_path: Path) -> None:
    """After every second epoch, at the end, and before the first step where asked; not again after a resume."""
    subsets = {Subset.TRAIN: subset(4, 12, 0), Subset.VAL: subset(4, 8, 1)}
    state = Watched(folder=tmp_path, step=start, steps=7, subsets=subsets)
    callback, seen = KNN(every_epochs=2, k=3, at_start=at_start), list[int]()
    for step in range(start, 7):
        callback.on_step_start(state, BATCH)
        seen += [state.step] * len(state.metrics)
        state.metrics.clear()
        state.step = step + 1
        if state.step % 3 == 0 or state.step == 7:
            callback.on_epoch_end(state)
        seen += [state.step] * len(state.metrics)
        state.metrics.clear()
    assert seen == when


def test_equals_the_evaluation_by_hand(tmp_path: Path) -> None:
    """Features of the last feature of the frozen trunk in eval mode, read as `data.val` says, on each image."""
    asked = tiny(epochs=2, evaluated=True, callbacks=[KNNConf(k=9, temperature=0.1, every_epochs=1)])
    hard = override(asked, ["data.train.source.contrast=0.05", "data.val.source.contrast=0.05"])
    trainer = tiny_trainer(hard, tmp_path)
    trainer.fit()
    model, data = trainer.model.eval(), trainer._data
    assert data.val is not None
    sides: list[tuple[Tensor, Tensor]] = []
    for source in (data.train.images(), data.val.images()):
        data.val.source = source
        features, labels = [], []
        for batch in iterate(data.val):
            assert batch.label is not None
            with torch.no_grad():
                (feature,) = model.trunk(data.normalize(batch).views[0], ["flatten"])
            features.append(feature)
            labels.append(batch.label)
        sides.append((torch.cat(features), torch.cat(labels)))
    wanted = knn_accuracy(*sides[0], *sides[1], k=9, temperature=0.1, num_classes=4)
    assert trainer.metrics["knn_top1"] == pytest.approx(wanted["top1"])
    assert 0 < wanted["top1"] < 100, wanted


@pytest.mark.parametrize("order", [0, 1])
def test_at_start_reaches_every_callback(order: int, tmp_path: Path) -> None:
    """Also those that come after it in the recipe."""
    callbacks = [KNNConf(k=3, at_start=True), MetricsFileConf()]
    trainer = tiny_trainer(tiny(steps=1, evaluated=True, callbacks=callbacks[:: 1 - 2 * order]), tmp_path)
    trainer.fit()
    assert '"step": 0, "epoch": 1, "images": 0, "knn_top1"' in (tmp_path / "metrics.jsonl").read_text()


def test_it_does_not_move_the_training(tmp_path: Path) -> None:
    """With and without it the weights are the same to the last bit."""
    ends = []
    for number in (0, 1):
        callbacks = [KNNConf(k=3, every_epochs=1, at_start=True)] * number
        trainer = tiny_trainer(tiny(epochs=2, evaluated=True, callbacks=callbacks), tmp_path / str(number))
        (tmp_path / str(number)).mkdir()
        trainer.fit()
        ends.append(trainer.model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def logged_on_rank(folder: Path, count: int) -> dict[str, float]:
    subsets = {Subset.TRAIN: subset(7, 30, 0), Subset.VAL: subset(7, count, 1)}
    state = Watched(folder=folder, step=6, subsets=subsets)
    KNN(every_epochs=1, k=3).on_epoch_end(state)
    return state.metrics


@pytest.mark.parametrize("count", [1, 21])
def test_ranks_share_the_queries_and_give_what_one_does(count: int, tmp_path: Path) -> None:
    """Also where one of them has no query."""
    alone = logged_on_rank(tmp_path, count)
    assert set(alone) == {"knn_top1", "knn_top5"}
    for metrics in run_on_ranks(logged_on_rank, 3, tmp_path, count):
        assert metrics == pytest.approx(alone)

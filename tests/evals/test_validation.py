"""Measures on data.val while training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from tiny import PatchesConf, tiny, tiny_trainer

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.overrides import override
from ssltyped.data.pipeline import iterate
from ssltyped.evals.validation import ValidationConf
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.launch import launch
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.meters.topk import TopKAccuracyConf
from ssltyped.resolution import resolve_experiment
from ssltyped.transforms.geometry import CenterCropConf
from ssltyped.transforms.rotation import RotatedViewsConf
from ssltyped.transforms.views import RepeatViewsConf, SeveralInputsConf
from ssltyped.types import Callback, Meter


def supervised(folder: Path, *, heads: int = 1, **changes: object) -> Experiment:
    meters: list[Meter] = [TopKAccuracyConf(topk=[1, 2])]
    watch: list[Callback] = [ValidationConf(meters=meters)]
    names = ["res4", "res5"][:heads]
    asked = tiny(output=folder, epochs=2, loss=CrossEntropyLossConf(heads=names), evaluated=True, callbacks=watch)
    return config.replaced(asked, {"heads": {name: MLPHeadConf(dims=[4]) for name in names}, **changes})


def test_the_numbers_are_those_of_the_trained_model(tmp_path: Path) -> None:
    run = launch(supervised(tmp_path))
    data = config.build(supervised(tmp_path).data)
    assert data.val is not None
    model = run.model.eval()
    right, count = 0, 0
    with torch.no_grad():
        for batch in map(data.normalize, iterate(data.val)):
            right += int((model([batch.views[0]]).of("res4").argmax(dim=1) == batch.label).sum())
            count += len(batch.index)
    assert run.metrics["val_top1"] == pytest.approx(100 * right / count)
    assert run.metrics["val_top2"] >= run.metrics["val_top1"]


def test_each_output_is_measured(tmp_path: Path) -> None:
    metrics = launch(supervised(tmp_path, heads=2)).metrics
    assert {"val_top1.res4", "val_top1.res5", "val_top2.res4", "val_top2.res5"} <= set(metrics)
    chosen = [ValidationConf(meters=[TopKAccuracyConf(topk=[1])], heads=["res5"])]
    assert "val_top1" in launch(supervised(tmp_path / "b", heads=2, callbacks=chosen)).metrics
    unknown = [ValidationConf(meters=[TopKAccuracyConf(topk=[1])], heads=["res6"])]
    with pytest.raises(ConfigError, match=r"callbacks.0.heads.0: the model has no head 'res6'; did you mean 'res5'"):
        resolve_experiment(supervised(tmp_path, heads=2, callbacks=unknown))


def test_training_is_not_moved(tmp_path: Path) -> None:
    watched = launch(supervised(tmp_path / "a"))
    alone = launch(supervised(tmp_path / "b", callbacks=[]))
    for name, value in alone.model.state_dict().items():
        assert torch.equal(watched.model.state_dict()[name], value), name


def test_a_pretext_task_or_several_inputs_cannot_be_validated(tmp_path: Path) -> None:
    rotated = RotatedViewsConf(transforms=[CenterCropConf(size=16)])
    with pytest.raises(ConfigError, match=r"callbacks.0: the model predicts the classes of a pretext task"):
        resolve_experiment(config.replaced(supervised(tmp_path), {"data.train.views": rotated}))
    one = RepeatViewsConf(num_views=1, transforms=[CenterCropConf(size=16)])
    several = SeveralInputsConf(names=["a", "b"], views=[one, one])
    changes = {"data.train.views": several, "heads.res4.input": "a", "heads.res5.input": "b"}
    with pytest.raises(ConfigError, match=r"callbacks.0: shows the model one image; it reads the inputs a, b"):
        resolve_experiment(config.replaced(supervised(tmp_path, heads=2), changes))


def test_labels_are_needed(tmp_path: Path) -> None:
    asked = config.replaced(supervised(tmp_path), {"data.train.source": PatchesConf(has_labels=False)})
    with pytest.raises(ConfigError, match=r"callbacks.0: needs labels"):
        resolve_experiment(asked)


def _on_rank(folder: Path) -> dict[str, float]:
    asked = override(supervised(folder), ["distributed.num_procs=2", "data.train.batch_size=4"])
    one = config.replaced(asked, {"data.val.source": PatchesConf(count=1)})
    trainer = tiny_trainer(one, folder)
    trainer.fit()
    return dict(trainer.metrics)


def test_a_rank_without_images_takes_part(tmp_path: Path) -> None:
    """It would keep the others waiting in the sum over ranks."""
    first, second = run_on_ranks(_on_rank, 2, tmp_path)
    assert first["val_top1"] == second["val_top1"]
    assert first["val_top1"] in (0.0, 100.0)

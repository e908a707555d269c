"""Every method from end to end: planned, run for 4 steps of 3 an epoch, and stopped in the middle."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from methods import METHODS, crops, method
from stops import StopConf
from tiny import TORCHRUN, PatchesConf, sha256

from ssltyped.cli.plan import plan
from ssltyped.config import ConfigError, replaced
from ssltyped.data.image_list import ImageListConf
from ssltyped.data.mixing import MixConf, PairMixUpConf
from ssltyped.data.targets import OneHotConf
from ssltyped.engine.callbacks.nan_guard import NaNGuardConf, NonFiniteLossError
from ssltyped.engine.trainer import Outcome
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.launch import launch, replay
from ssltyped.losses.supervised import BCELossConf, CrossEntropyLossConf
from ssltyped.types import Collator


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def state(folder: Path) -> dict[str, object]:
    """All that the checkpoint of the last step says of model, method and optimizer: tensors and numbers, by path."""
    saved = torch.load(folder / "checkpoints" / "step_00000004" / "state.pt", weights_only=True)
    return dict(leaves("", {name: saved[name] for name in ("module", "optimizer", "step")}))


def leaves(path: str, tree: object) -> Iterator[tuple[str, object]]:
    if isinstance(tree, dict | list):
        for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(f"{path}/{key}", item)
    else:
        yield path, tree


def equal(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b


@pytest.mark.parametrize("name", METHODS)
def test_stopped_and_gone_on_is_straight(name: str, tmp_path: Path) -> None:
    """Bitwise, with all that a method keeps: queues, banks, teachers, centres, counters."""
    asked = METHODS[name]
    whole = launch(replaced(asked, {"output": tmp_path / "whole"}), name=name)
    assert whole.outcome is Outcome.FINISHED
    assert math.isfinite(whole.metrics["loss"])
    cut = replaced(asked, {"output": tmp_path / "cut", "callbacks": [StopConf(at=2, number=signal.SIGTERM)]})
    assert launch(cut, name=name).outcome is Outcome.INTERRUPTED
    again = launch(cut, name=name)
    assert again.outcome is Outcome.FINISHED
    assert sha256(again.folder / "weights.pt") == sha256(whole.folder / "weights.pt")
    wanted, got = state(whole.folder), state(again.folder)
    assert wanted.keys() == got.keys()
    assert not [key for key in wanted if not equal(wanted[key], got[key])]
    assert any(key.startswith("/module/loss.") for key in wanted) is (name not in STATELESS)


STATELESS = {"multicrop_simclr", "barlow_twins", "jigsaw", "rotnet"}
"""Methods that keep nothing beside the model."""


@pytest.mark.parametrize("name", METHODS)
def test_plan(name: str) -> None:
    """Every method can be planned, and nothing of it is left to infer."""
    text = plan(METHODS[name], name)
    assert "8 images a step, 3 steps an epoch, 4 steps" in text
    assert "activations" in text


def test_a_masked_step_is_replayed(tmp_path: Path) -> None:
    """The bundle of a step that failed holds its masks and labels too."""
    for name, rate in (("ibot", 1e30), ("rotnet", 1e30)):
        fields = {"output": tmp_path, "callbacks": [NaNGuardConf()], "optimizer.rate.lr": rate, "steps": 9}
        with pytest.raises(NonFiniteLossError) as caught:
            launch(replaced(METHODS[name], fields), name=name)
        assert not torch.isfinite(replay(caught.value.bundle).loss)


def test_plan_with_rows_of_labels(tmp_path: Path) -> None:
    """A source may label an image with a row, which the method needs."""
    np.save(tmp_path / "rows.npy", np.tile([1, 0, -1], (24, 1)))
    (tmp_path / "list.txt").write_text("".join(f"{i}.png\n" for i in range(24)))
    source = ImageListConf(path=tmp_path / "list.txt", labels=tmp_path / "rows.npy")
    asked = method(
        views=crops(1),
        heads={"classes": MLPHeadConf(dims=[3])},
        loss=BCELossConf(),
        fields={"data.train.source": source},
    )
    assert "BCELoss" in plan(asked, "rows")
    with pytest.raises(ConfigError, match="the labels are of 4 classes; classes is 3 wide"):
        plan(replaced(asked, {"data.train.source": PatchesConf()}), "classes")
    of_classes = {"data.train.source": PatchesConf(), "heads": {"classes": MLPHeadConf(dims=[4])}}
    with pytest.raises(ConfigError, match="OneHot"):
        plan(replaced(asked, of_classes), "classes")
    one_hot = {**of_classes, "data.train.collators": [OneHotConf()]}
    assert "width of the model's outputs" in plan(replaced(asked, one_hot), "one hot")


@pytest.mark.parametrize("collator", [MixConf(cutmix_alpha=1.0), PairMixUpConf()])
def test_mixed_images_stopped_and_gone_on(collator: Collator, tmp_path: Path) -> None:
    """What collators draw is a function of the step."""
    asked = method(
        views=crops(1),
        heads={"classes": MLPHeadConf(dims=[4])},
        loss=CrossEntropyLossConf(),
        fields={"data.train.collators": [collator]},
    )
    assert plan(asked, "mixed")
    whole = launch(replaced(asked, {"output": tmp_path / "whole"}))
    cut = replaced(asked, {"output": tmp_path / "cut", "callbacks": [StopConf(at=1, number=signal.SIGTERM)]})
    assert launch(cut).outcome is Outcome.INTERRUPTED
    assert sha256(launch(cut).folder / "weights.pt") == sha256(whole.folder / "weights.pt")
    plain = launch(replaced(asked, {"output": tmp_path / "plain", "data.train.collators": []}))
    assert sha256(plain.folder / "weights.pt") != sha256(whole.folder / "weights.pt")

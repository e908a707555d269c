"""The probe that learns beside a method: what it learns, over ranks and restarts, and where it can be."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from facts import FACTS
from methods import METHODS
from ranks import run_on_ranks
from sklearn.linear_model import LogisticRegression
from stops import StopConf
from tiny import TORCHRUN, PatchesConf, sha256, tiny, tiny_trainer
from torch import Tensor

from ssltyped import config
from ssltyped.config import INFERRED, ConfigError
from ssltyped.config.resolve import Resolution
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.trainer import Outcome
from ssltyped.evals.linear_probe import LinearProbe, LinearProbeConf, Probe
from ssltyped.experiment import Experiment
from ssltyped.launch import launch
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Callback


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def clouds(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three overlapping clouds in 8 dimensions, of very different scales."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (count,), generator=generator)
    centres = 0.7 * torch.randn(3, 8, generator=torch.Generator().manual_seed(9))
    rows = centres[label] + torch.randn(count, 8, generator=generator)
    return rows * 10.0 ** torch.arange(-3, 5), label


def test_it_learns_what_logistic_regression_learns() -> None:
    """sklearn's, on the same rows, is no more than 2 percent better on others."""
    probe = Probe(8, 3, 0.1, torch.device("cpu"))
    (x, y), (x_new, y_new) = clouds(2000, 0), clouds(1000, 1)
    for start in [*range(0, 2000, 50)] * 3:
        probe.learn(x[start : start + 50], y[start : start + 50])
    scale = x.std(dim=0)
    oracle = LogisticRegression(max_iter=1000)  # type: ignore[no-untyped-call]
    oracle.fit((x / scale).numpy(), y.numpy())
    wanted = 100 * oracle.score((x_new / scale).numpy(), y_new.numpy())  # type: ignore[no-untyped-call]
    assert 80 < wanted < 98, "neither easy nor hopeless"
    assert probe.accuracy_on(x_new, y_new) > wanted - 2


def test_the_steps_are_those_of_torch_by_hand() -> None:
    """SGD with momentum on standardized features, in autograd alone; predicted before learned from."""
    probe, (x, y) = Probe(8, 3, 0.2, torch.device("cpu")), clouds(90, 0)
    weight, bias = torch.zeros(3, 8, requires_grad=True), torch.zeros(3, requires_grad=True)
    moved, right = [torch.zeros(3, 8), torch.zeros(3)], 0
    for start in (0, 30, 60):
        rows, label = x[start : start + 30], y[start : start + 30]
        z = (rows - rows.mean(dim=0)) / (rows.var(dim=0, correction=0) + 1e-5).sqrt()
        scores = z @ weight.T + bias
        right += int((scores.argmax(dim=1) == label).sum())
        loss = -scores.log_softmax(dim=1)[torch.arange(30), label].mean()
        for number, (p, g) in enumerate(zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True)):
            moved[number] = 0.9 * moved[number] + g
            p.data -= 0.2 * moved[number]
        probe.learn(rows, label)
    learned = probe.state_dict()["linear"]
    assert isinstance(learned, dict)
    torch.testing.assert_close(learned["weight"], weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learned["bias"], bias.detach(), rtol=1e-4, atol=1e-5)
    assert probe.accuracy() == pytest.approx(100 * right / 90)


def probed(folder: Path, *more: Callback, steps: int = 7, batch_size: int = 8) -> Experiment:
    checkpoints = CheckpointsConf(every_steps=2, keep=9)
    asked = [LinearProbeConf(every_epochs=1), *more]
    return tiny(
        output=folder, steps=steps, batch_size=batch_size, checkpoints=checkpoints, callbacks=asked, evaluated=True
    )


def kept(folder: Path, step: int) -> Mapping[str, Mapping[str, Tensor]]:
    state = torch.load(folder / "checkpoints" / f"step_{step:08d}" / "state.pt", weights_only=True)["callbacks"]
    (probe,) = [one for name, one in state.items() if name.startswith("LinearProbe")]
    found: Mapping[str, Mapping[str, Tensor]] = probe
    return found


def equal(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other


def test_stopped_and_gone_on_bitwise_and_the_method_is_not_moved(tmp_path: Path) -> None:
    """Stopped in the middle of an epoch: what was counted of its first half counts."""
    whole = launch(probed(tmp_path / "whole"))
    cut = probed(tmp_path / "cut", StopConf(at=4, number=signal.SIGTERM))
    assert launch(cut).outcome is Outcome.INTERRUPTED
    again = launch(cut)
    assert equal(kept(again.folder, 7), kept(whole.folder, 7))
    assert not torch.equal(kept(whole.folder, 2)["linear"]["weight"], kept(whole.folder, 7)["linear"]["weight"])
    names = ("probe_top1", "probe_val_top1")
    assert [again.metrics[name] for name in names] == [whole.metrics[name] for name in names]
    assert whole.first["probe_top1"] < whole.metrics["probe_val_top1"], "four colours are soon told apart"
    alone = launch(config.replaced(probed(tmp_path / "alone"), {"callbacks": []}))
    assert sha256(alone.folder / "weights.pt") == sha256(whole.folder / "weights.pt")


def on_rank(folder: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    trainer = tiny_trainer(config.replaced(probed(folder, steps=3, batch_size=4), {"distributed.num_procs": 2}), folder)
    trainer.fit()
    (probe,) = (callback for callback in trainer._callbacks if isinstance(callback, LinearProbe))
    state = probe.state_dict()
    linear, norm = state["linear"], state["norm"]
    assert isinstance(linear, dict)
    assert isinstance(norm, dict)
    return {**linear, **norm}, dict(trainer.metrics)


def test_two_ranks_learn_the_probe_of_one(tmp_path: Path) -> None:
    alone = launch(probed(tmp_path, steps=3))
    one = {**kept(alone.folder, 3)["linear"], **kept(alone.folder, 3)["norm"]}
    (tmp_path / "two").mkdir()
    (first, told), (second, _) = run_on_ranks(on_rank, 2, tmp_path / "two")
    assert one.keys() == first.keys()
    for name, value in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-2, atol=1e-4, msg=name)
    for name in ("probe_top1", "probe_val_top1"):
        assert told[name] == alone.metrics[name]


def rows_of(resolution: Resolution[Experiment]) -> dict[str, tuple[object, str]]:
    return {row.field.removeprefix("callbacks.0."): (row.value, row.rule) for row in resolution.rows}


def test_what_is_inferred() -> None:
    rows = rows_of(resolve_experiment(tiny(callbacks=[LinearProbeConf(enabled=INFERRED)], evaluated=True)))
    assert rows["enabled"] == (True, "the images have labels")
    assert rows["feature"] == ("flatten", "the trunk's last feature")
    assert rows["num_classes"] == (4, "classes of the labels")
    assert rows["lr"] == (0.1 * 8 / 256, "0.1 x (8 images a step / 256)")
    assert rows["every_epochs"] == (1, "a tenth of 2 epochs")
    rows = rows_of(resolve_experiment(tiny(callbacks=[LinearProbeConf(feature="res4")], evaluated=True)))
    assert rows["every_epochs"] == (0, "an evaluation reads flatten")


def test_without_labels_it_is_left_out_if_it_may_be_and_refused_if_asked_for(tmp_path: Path) -> None:
    unlabelled = PatchesConf(has_labels=False)
    asked = tiny(output=tmp_path, source=unlabelled, steps=2, callbacks=[LinearProbeConf(enabled=INFERRED)])
    value, rule = rows_of(resolve_experiment(asked))["enabled"]
    assert value is False
    assert rule == "left out: it needs labels, and data.train has none (Patches gives no labels)"
    assert "probe_top1" not in launch(asked).metrics
    with pytest.raises(ConfigError, match=r"callbacks.0: needs labels, and data.train has none .*: remove this"):
        resolve_experiment(config.replaced(asked, {"callbacks.0.enabled": True}))


@pytest.mark.parametrize(
    ("changes", "fields", "problem"),
    [
        ({"pretext": True}, {}, ": needs labels, and those of data.train are the classes of a pretext task: remove"),
        ({"label_rows": True}, {}, ": needs labels, and those of data.train are rows of them: remove this callback"),
        ({"num_labels": None}, {}, "num_classes: how many classes there are is not known here: give it"),
        ({}, {"num_classes": 3}, "num_classes: got 3: the labels are of 4 classes"),
        ({"evaluates": False}, {"every_epochs": 2}, "every_epochs: got 2, and there is no data.val with labels: set 0"),
        ({}, {"every_epochs": 2, "feature": "a"}, "every_epochs: got 2, and an evaluation reads b, not a: set 0, or"),
    ],
)
def test_what_it_cannot_be(changes: dict[str, object], fields: dict[str, object], problem: str) -> None:
    known = {"feature_dims": {"a": 3, "b": 4}, "num_labels": 4, "train_labelled": True, "labelled": True, **changes}
    facts = dataclasses.replace(FACTS, **known)  # type: ignore[arg-type]  # by name
    given = {"feature": "b", "num_classes": None if "num_labels" in changes else 4, "every_epochs": 0, **fields}
    (found,) = LinearProbe.problems(LinearProbeConf(**given), facts)  # type: ignore[arg-type]  # by name
    assert str(found).startswith(problem.removeprefix(": ")), found


@pytest.mark.parametrize("name", ["pirl", "dino", "multicrop_simclr"])
def test_beside_every_kind_of_method(name: str, tmp_path: Path) -> None:
    """Several inputs, tokens, crops of several sizes."""
    asked = config.replaced(METHODS[name], {"output": tmp_path, "steps": 3, "callbacks": [LinearProbeConf()]})
    assert 0 <= launch(asked).metrics["probe_top1"] <= 100


def test_the_probe_of_a_teacher_is_not_evaluated(tmp_path: Path) -> None:
    val = tiny(evaluated=True).data.val
    fields = {"output": tmp_path, "steps": 3, "data.val": val, "callbacks": [LinearProbeConf(every_epochs=1)]}
    trainer = tiny_trainer(config.replaced(METHODS["dino"], fields), tmp_path)
    trainer.fit()
    assert "probe_top1" in trainer.metrics
    assert "probe_val_top1" not in trainer.metrics


def test_labels_of_mixed_images_are_refused(tmp_path: Path) -> None:
    probe = LinearProbe(feature="flatten", num_classes=4, lr=0.1, every_epochs=0)
    trainer = tiny_trainer(tiny(output=tmp_path), tmp_path)
    batch = next(trainer._one_pass())
    mixed = dataclasses.replace(batch, label=torch.full((8, 4), 0.25))
    with pytest.raises(ValueError, match="LinearProbe needs a class an image; these labels are rows"):
        probe.on_loss(trainer, mixed, trainer.forward(batch))

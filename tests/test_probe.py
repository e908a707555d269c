"""A linear probe that is trained beside a method, as a stranger would write it: a callback with state, in one file."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Optional

import pytest
import torch
import torch.nn.functional as F
from annotated_types import Gt
from methods import METHODS
from ranks import run_on_ranks
from stops import StopConf
from tiny import TORCHRUN, sha256, tiny, tiny_trainer
from torch import Tensor, nn

from ssltyped import config, distributed
from ssltyped.config import ConfigError, config_for
from ssltyped.engine.checkpoint import CheckpointsConf, load
from ssltyped.engine.trainer import Outcome
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.launch import launch
from ssltyped.losses.supervised import CrossEntropyLossConf, labels_of
from ssltyped.types import Batch, Callback, StepOutput, TrainState


class LinearProbe(Callback):
    """A linear classifier of the trunk's features of each training step; they take no gradient from it.

    Args:
        feature: the trunk's feature that it reads.
        num_classes: K.
        lr: of its SGD.
    """

    every_rank = True

    def __init__(self, *, feature: str = "res5", num_classes: int = 4, lr: Annotated[float, Gt(0)] = 0.1) -> None:
        self.feature, self.num_classes, self.lr = feature, num_classes, lr
        self.reads = (feature,)
        self.layer: Optional[nn.Linear] = None

    def layer_for(self, width: int) -> nn.Linear:
        if self.layer is None:
            self.layer = nn.Linear(width, self.num_classes)
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in self.layer.parameters():
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)
        return self.layer

    def on_loss(self, state: TrainState, batch: Batch, output: StepOutput) -> None:
        label = labels_of(batch)
        rows = output.features[self.feature][: len(label)].flatten(2).mean(dim=2)  # those of view 0
        layer = self.layer_for(rows.shape[1])
        loss = F.cross_entropy(layer(rows), label)
        gradients = torch.autograd.grad(loss, list(layer.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
                parameter.sub_(self.lr * distributed.all_reduce_mean(gradient))
        state.log({"probe_loss": float(distributed.all_reduce_mean(loss.detach()))})

    def state_dict(self) -> Mapping[str, object]:
        return {} if self.layer is None else dict(self.layer.state_dict())

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        weight = state["weight"]
        assert isinstance(weight, Tensor)
        self.layer_for(weight.shape[1]).load_state_dict(state)


LinearProbeConf = config_for(LinearProbe)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def probed(folder: Path, *more: Callback, steps: int = 6) -> Experiment:
    checkpoints = CheckpointsConf(every_steps=2, keep=9)
    return tiny(output=folder, steps=steps, checkpoints=checkpoints, callbacks=[LinearProbeConf(), *more])


def kept(folder: Path, step: int) -> dict[str, Tensor]:
    """The probe's state in a checkpoint."""
    state = torch.load(folder / "checkpoints" / f"step_{step:08d}" / "state.pt", weights_only=True)
    name = "LinearProbe(feature='res5', num_classes=4, lr=0.1).0"
    probe: dict[str, Tensor] = state["callbacks"][name]
    return probe


def test_it_learns_and_is_stopped_and_resumed_bitwise(tmp_path: Path) -> None:
    whole = launch(probed(tmp_path / "whole"))
    assert whole.metrics["probe_loss"] < whole.first["probe_loss"]
    cut = probed(tmp_path / "cut", StopConf(at=3, number=signal.SIGTERM))
    assert launch(cut).outcome is Outcome.INTERRUPTED
    again = launch(cut)
    assert again.outcome is Outcome.FINISHED
    for name, value in kept(whole.folder, 6).items():
        assert torch.equal(kept(again.folder, 6)[name], value), name
    assert again.metrics["probe_loss"] == whole.metrics["probe_loss"]
    first, last = kept(whole.folder, 2), kept(whole.folder, 6)
    assert not torch.equal(first["weight"], last["weight"]), "it moved in between"


def test_the_method_is_not_moved_by_it(tmp_path: Path) -> None:
    watched = launch(probed(tmp_path / "watched"))
    alone = launch(config.replaced(probed(tmp_path / "alone"), {"callbacks": []}))
    assert sha256(watched.folder / "weights.pt") == sha256(alone.folder / "weights.pt")


def on_rank(folder: Path) -> dict[str, Tensor]:
    trainer = tiny_trainer(
        config.replaced(probed(folder, steps=3), {"distributed.num_procs": 2, "data.train.batch_size": 4}), folder
    )
    trainer.fit()
    (probe,) = (callback for callback in trainer._callbacks if isinstance(callback, LinearProbe))
    assert probe.layer is not None
    return dict(probe.layer.state_dict())


def test_two_ranks_learn_the_probe_of_one(tmp_path: Path) -> None:
    launch(probed(tmp_path, steps=3))
    one = kept(tmp_path / "tiny", 3)
    (tmp_path / "two").mkdir()
    first, second = run_on_ranks(on_rank, 2, tmp_path / "two")
    for name, value in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-5)


def test_another_probe_does_not_get_its_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Callbacks may change on a resume; what was kept goes to the one with the same fields, or is said to be left."""
    both = tiny(
        output=tmp_path,
        steps=2,
        checkpoints=CheckpointsConf(every_steps=2),
        callbacks=[LinearProbeConf(), LinearProbeConf(feature="res4")],
    )
    saved = launch(both).folder / "checkpoints" / "step_00000002"
    state = torch.load(saved / "state.pt", weights_only=True)["callbacks"]
    assert len(state) == 2
    trainer = tiny_trainer(config.replaced(both, {"callbacks": [LinearProbeConf(feature="res4")]}), tmp_path)
    trainer.restore(load(saved, torch.device("cpu")))
    with trainer._watched():
        (probe,) = trainer._callbacks
        assert isinstance(probe, LinearProbe)
        (wanted,) = [one for name, one in state.items() if "res4" in name]
        assert torch.equal(probe.layer_for(0).weight, wanted["weight"])
    assert "LinearProbe(feature='res5', num_classes=4, lr=0.1).0 is left out" in capsys.readouterr().out


def test_what_it_reads_is_checked_and_found_among_several_inputs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"callbacks.0: reads 'res9' of the trunk; did you mean 'res"):
        launch(tiny(output=tmp_path, callbacks=[LinearProbeConf(feature="res9")]))
    assert not list(tmp_path.iterdir()), "nothing was written"
    asked = config.replaced(METHODS["pirl"], {"output": tmp_path, "steps": 1, "callbacks": [LinearProbeConf()]})
    assert "probe_loss" in launch(asked).metrics


class Draws(Callback):
    """Draws random numbers at each loss."""

    every_rank = True

    def __init__(self, *, count: int = 0) -> None:
        self.count = count

    def on_loss(self, state: TrainState, batch: Batch, output: StepOutput) -> None:
        torch.rand(self.count)


DrawsConf = config_for(Draws)


def test_what_a_callback_draws_moves_nothing(tmp_path: Path) -> None:
    """Also between the batches of a step, of a method that drops out."""
    hashes = set()
    for count in (0, 3):
        asked = tiny(
            output=tmp_path / str(count),
            steps=2,
            loss=CrossEntropyLossConf(),
            callbacks=[DrawsConf(count=count)],
        )
        heads = {"head": MLPHeadConf(dims=[8, 4], use_relu=True, dropout=0.5)}
        run = launch(config.replaced(asked, {"heads": heads, "accumulation": 2, "data.train.batch_size": 4}))
        hashes.add(sha256(run.folder / "weights.pt"))
    assert len(hashes) == 1

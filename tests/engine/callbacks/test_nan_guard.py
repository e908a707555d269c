"""A loss that is not finite stops the run before it touches the weights, and can be looked into."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pytest
import torch
from annotated_types import Ge
from tiny import tiny, tiny_trainer
from torch import Tensor
from watched import Watched

from ssltyped.config import INFERRED, ConfigError, check, config_for
from ssltyped.config.overrides import override
from ssltyped.engine.callbacks.nan_guard import NaNGuard, NaNGuardConf, NonFiniteLossError
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.experiment import Experiment
from ssltyped.launch import launch, replay
from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.run import main
from ssltyped.types import Batch, Model, Moment, StepOutput


class Poisoned(SimCLRLoss):
    """SimCLR, which is NaN for every batch with a certain image, and draws random numbers as dropout would.

    Args:
        head: of SimCLR.
        temperature: of SimCLR.
        chunk_size: of SimCLR.
        image: the number of the image.
    """

    def __init__(
        self,
        *,
        head: str = INFERRED,
        temperature: float = 0.2,
        chunk_size: int = INFERRED,
        image: Annotated[int, Ge(0)] = 5,
    ) -> None:
        super().__init__(head=head, temperature=temperature, chunk_size=chunk_size)
        self.image = image

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        output = super().step(model, batch, moment)
        noise = torch.rand(()) * 1e-2
        factor = float("nan") if self.image in batch.index.tolist() else 1.0
        return dataclasses.replace(output, loss=(output.loss + noise) * factor)


PoisonedConf = config_for(Poisoned)


def poisoned(output: Path = Path("runs"), image: int = 5) -> Experiment:
    checkpoints = CheckpointsConf(every_steps=1, keep=9)
    return tiny(
        output=output, epochs=2, loss=PoisonedConf(image=image), checkpoints=checkpoints, callbacks=[NaNGuardConf()]
    )


def step_with(image: int, folder: Path) -> int:
    """In which step an image is read first; not the first step, so that weights and moments have moved."""
    trainer = tiny_trainer(poisoned(), folder)
    with trainer._pipeline(0) as batches:
        first = next(step for step in range(3) if image in next(batches).index.tolist())
    return first


def image_of_step(step: int, folder: Path) -> int:
    return next(image for image in range(24) if step_with(image, folder) == step)


def test_a_nan_stops_with_its_bundle(tmp_path: Path) -> None:
    """The bundle holds the weights of before the step; computing it again gives NaN again."""
    image = image_of_step(1, tmp_path)
    with pytest.raises(
        NonFiniteLossError, match=r"the loss of step 1 is nan here; the weights are not touched"
    ) as caught:
        launch(poisoned(tmp_path, image))
    bundle = caught.value.bundle
    assert bundle == tmp_path / "tiny" / "nan_step1_rank0.pt"
    assert repr(str(bundle)) in str(caught.value), "the message says how to replay"
    saved = torch.load(bundle, weights_only=True)
    before = torch.load(tmp_path / "tiny" / "checkpoints" / "step_00000001" / "state.pt", weights_only=True)
    weights, kept = saved["module"], before["module"]
    parameters = [name for name in kept if "running" not in name and "num_batches" not in name]
    assert len(parameters) > 20
    assert all(torch.equal(weights[name], kept[name]) for name in parameters)
    assert image in saved["batch"]["index"].tolist()
    assert torch.isnan(replay(bundle).loss)
    assert torch.isnan(replay(str(bundle)).loss), "again"


class Recorder(NaNGuard):
    """Captures one finite step the same way."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.loss = at, torch.tensor(0.0)

    def on_loss(self, state: object, batch: Batch, output: StepOutput) -> None:
        if getattr(state, "step", None) != self.at:
            return
        self.loss = output.loss.detach().clone()
        nan = StepOutput(loss=torch.tensor(float("nan")))
        super().on_loss(state, batch, nan)  # type: ignore[arg-type]  # a TrainState


def test_a_finite_step_is_replayed_bitwise(tmp_path: Path) -> None:
    """The same weights, batch and random numbers give the same loss to the last bit."""
    run = launch(override(poisoned(tmp_path), ["loss.image=99", "name=whole"]))
    assert run.folder == tmp_path / "whole"
    trainer = tiny_trainer(override(poisoned(tmp_path), ["loss.image=99"]), run.folder)
    recorder = Recorder(at=4)
    trainer._callbacks = [recorder]
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.fit()
    assert bool(torch.isfinite(recorder.loss))
    again = replay(caught.value.bundle)
    assert torch.equal(again.loss.detach(), recorder.loss)


def test_a_bundle_of_several_ranks(tmp_path: Path) -> None:
    """It is replayed in one process, without their SyncBatchNorm."""
    asked = override(poisoned(tmp_path, image_of_step(1, tmp_path)), ["name=one"])
    with pytest.raises(NonFiniteLossError) as caught:
        launch(asked)
    resolved = caught.value.bundle.parent / "resolved.yaml"
    text = resolved.read_text().replace("num_procs: 1", "num_procs: 2").replace("sync_bn_group: 1", "sync_bn_group: 2")
    resolved.write_text(text)
    assert torch.isnan(replay(caught.value.bundle).loss)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite(value: float, tmp_path: Path) -> None:
    guard, batch = NaNGuard(), Batch(views=(torch.zeros(1, 3, 2, 2),), index=torch.tensor([0]))
    guard.on_loss(Watched(folder=tmp_path), batch, StepOutput(loss=torch.tensor(1e30)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(NonFiniteLossError):
        guard.on_loss(Watched(folder=tmp_path), batch, StepOutput(loss=torch.tensor(value)))


def test_every_so_many_steps(tmp_path: Path) -> None:
    guard, batch = NaNGuard(every_steps=3), Batch(views=(), index=torch.tensor([0]), label=torch.tensor([7]))
    nan = StepOutput(loss=torch.tensor(float("nan")))
    guard.on_loss(Watched(folder=tmp_path, step=4), batch, nan)
    with pytest.raises(NonFiniteLossError) as caught:
        guard.on_loss(Watched(folder=tmp_path, step=6), batch, nan)
    saved: Mapping[str, Mapping[str, Tensor]] = torch.load(caught.value.bundle, weights_only=True)
    assert saved["batch"]["label"].tolist() == [7]
    with pytest.raises(ConfigError, match="every_steps: got 0: input should be greater than 0"):
        check(NaNGuardConf(every_steps=0))  # type: ignore[config-value]  # the point of it


def test_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A run that fails ends with 1; no weights are exported."""
    assert main(["tiny", f"output={tmp_path}", "optimizer.rate.lr=1e30", "callbacks=[NaNGuard]"]) == 1
    err = capfd.readouterr().err
    assert "NonFiniteLossError" in err
    assert "ssltyped.replay(" in err
    assert list((tmp_path / "tiny").glob("nan_step*_rank0.pt"))
    assert not (tmp_path / "tiny" / "weights.pt").exists()

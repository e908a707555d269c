"""What only a card shows of a run. What can run on the CPU too does, so that no line is run on a card first."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
import torch
from gpu.one_step import without_tf32
from measured import labelled
from methods import METHODS
from stops import StopConf
from test_methods import equal, state
from tiny import TORCHRUN, sha256, tiny
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssltyped import config, launch, replay
from ssltyped.config import replaced
from ssltyped.data.pipeline import TrainPipeline
from ssltyped.engine.callbacks.collapse_watch import CollapseWatchConf
from ssltyped.engine.callbacks.nan_guard import NaNGuardConf, NonFiniteLossError
from ssltyped.engine.parallel import Device, Precision
from ssltyped.engine.trainer import Outcome, Trainer
from ssltyped.evals.linear_probe import LinearProbeConf
from ssltyped.evals.online_knn import KNNConf
from ssltyped.experiment import Experiment, build_trainer
from ssltyped.resolution import resolve_experiment
from ssltyped.tasks.knn import KNNEvalConf
from ssltyped.tasks.linear import LinearEvalConf
from ssltyped.tasks.retrieval import RetrievalEvalConf

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used: deterministic sums

CARD = torch.device("cuda", 0)
gpu = pytest.mark.gpu
DEVICES = [Device.CPU, pytest.param(Device.CUDA, marks=gpu)]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    with without_tf32():
        yield


@contextmanager
def deterministic() -> Iterator[None]:
    """Within the block an operation whose bits may differ from run to run is an error."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def on(device: Device, asked: Experiment, folder: Path, **fields: object) -> Experiment:
    return replaced(asked, {"distributed.device": device, "output": folder, **fields})


def watched(steps: int = 4) -> Experiment:
    """With all that watches a run."""
    watchers = [NaNGuardConf(), CollapseWatchConf(every_steps=1), LinearProbeConf(), KNNConf(k=3, every_epochs=1)]
    return replaced(tiny(steps=steps, evaluated=True), {"callbacks": watchers})


def trainer_on(device: torch.device, asked: Experiment, folder: Path) -> Trainer:
    folder.mkdir(exist_ok=True)
    resolution = resolve_experiment(asked)
    return build_trainer(resolution.config, device=device, folder=folder, facts=resolution.facts)


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in trainer.student.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "precision", "device"),
    [
        ("moco", Precision.FP16, Device.CPU),
        pytest.param("moco", Precision.FP16, Device.CUDA, marks=gpu),
        pytest.param("swav", Precision.BF16, Device.CUDA, marks=gpu),
        pytest.param("deepcluster_v2", Precision.FP32, Device.CUDA, marks=gpu),
        pytest.param("watched", Precision.FP32, Device.CUDA, marks=gpu),
    ],
)
def test_stopped_and_gone_on_is_straight(name: str, precision: Precision, device: Device, tmp_path: Path) -> None:
    """Bitwise, where deterministic algorithms are asked for."""
    method = watched() if name == "watched" else METHODS[name]
    with deterministic():
        whole = launch(on(device, method, tmp_path / "whole", precision=precision), name=name)
        stop = StopConf(at=2, number=signal.SIGTERM)
        cut = on(device, method, tmp_path / "cut", precision=precision, callbacks=[*method.callbacks, stop])
        assert launch(cut, name=name).outcome is Outcome.INTERRUPTED
        again = launch(cut, name=name)
    assert sha256(again.folder / "weights.pt") == sha256(whole.folder / "weights.pt")
    wanted, got = state(whole.folder), state(again.folder)
    assert wanted.keys() == got.keys()
    assert not [key for key in wanted if not equal(wanted[key], got[key])]
    assert {value.device.type for value in got.values() if isinstance(value, Tensor)} == {"cpu"}
    assert {**again.metrics, "images_per_s": 0} == {**whole.metrics, "images_per_s": 0}


@pytest.mark.parametrize("device", DEVICES)
def test_what_watches_a_run_sees_what_the_cpu_shows(device: Device, tmp_path: Path) -> None:
    """The same first step from the same weights; in later ones rounding grows. Of 10 images one may be on an edge."""
    found = launch(on(device, watched(1), tmp_path / "found")).metrics
    wanted = launch(on(Device.CPU, watched(1), tmp_path / "wanted")).metrics
    assert found.keys() == wanted.keys()
    assert any(name.startswith("watch_") for name in found)
    assert {"knn_top1", "probe_top1"} <= found.keys()
    for name in found.keys() - {"images_per_s"}:
        loose = name.startswith(("knn", "probe"))
        assert found[name] == pytest.approx(wanted[name], rel=2e-2, abs=12.6 if loose else 1e-3), name


@gpu
def test_a_run_of_the_cpu_goes_on_on_a_card_and_back(tmp_path: Path) -> None:
    """With what callbacks keep: a probe, its counts, the last images."""
    for at, device in ((1, Device.CPU), (2, Device.CUDA), (3, Device.CPU)):
        asked = watched()
        stop = StopConf(at=at, number=signal.SIGTERM)
        assert launch(on(device, asked, tmp_path, callbacks=[*asked.callbacks, stop])).outcome is Outcome.INTERRUPTED
    assert launch(on(Device.CUDA, watched(), tmp_path)).outcome is Outcome.FINISHED


@gpu
def test_batches_are_pinned_and_copies_do_not_wait() -> None:
    sleep = cast("Callable[[int], None]", torch.cuda._sleep)  # cycles of the card
    for name in ("ibot", "rotnet"):  # with masks, and with labels
        split = config.build(resolve_experiment(METHODS[name]).config.data).train
        with TrainPipeline(split=split, seed=0, pin_memory=True) as pinned, TrainPipeline(split=split, seed=0) as plain:
            batch, wanted = next(pinned), next(plain)
        masks = [mask for mask in batch.masks if mask is not None]
        labels = [] if batch.label is None else [batch.label]
        assert masks or labels
        assert all(one.is_pinned() for one in (*batch.views, batch.index, *masks, *labels))
        sleep(1_000_000)  # once before the clock runs
        torch.cuda.synchronize()
        begun = time.perf_counter()
        sleep(1_000_000_000)  # half a second's work that is queued before the copies
        there = batch.to(CARD)
        queued = time.perf_counter() - begun
        torch.cuda.synchronize()
        assert queued < 0.5 * (time.perf_counter() - begun)
        for found, expected in zip((*there.views, there.index), (*wanted.views, wanted.index), strict=True):
            torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("device", [torch.device("cpu"), pytest.param(CARD, marks=gpu)])
def test_one_rank_of_a_process_group_trains_as_none(device: torch.device, tmp_path: Path) -> None:
    """DDP over nccl, with gloo beside it for what the host agrees on, as `process_group` joins several."""
    asked = tiny(steps=3)
    with deterministic():
        alone = trainer_on(device, asked, tmp_path / "alone")
        alone.fit()
        backend, store = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", f"file://{tmp_path}/store"
        torch.distributed.init_process_group(backend, init_method=store, rank=0, world_size=1)
        try:
            joined = trainer_on(device, asked, tmp_path / "joined")
            assert isinstance(joined._step.wrapped, DistributedDataParallel)
            joined.fit()
        finally:
            torch.distributed.destroy_process_group()
    wanted, found = weights_of(alone), weights_of(joined)
    assert not [name for name in wanted if not torch.equal(wanted[name], found[name])]


@gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_cards_with_shared_statistics_train_as_the_cpu(tmp_path: Path) -> None:
    """SyncBatchNorm, gathered embeddings and averaged gradients over nccl: the loss of the first step."""
    both = on(Device.CUDA, tiny(steps=1, batch_size=4), tmp_path / "two", **{"distributed.num_procs": 2})
    found = launch(both).metrics["loss"]
    assert found == pytest.approx(launch(on(Device.CPU, tiny(steps=1), tmp_path / "one")).metrics["loss"], rel=1e-4)


@pytest.mark.parametrize("device", [torch.device("cpu"), pytest.param(CARD, marks=gpu)])
def test_a_step_that_overflows_in_fp16_moves_nothing(device: torch.device, tmp_path: Path) -> None:
    trainer = trainer_on(device, replaced(METHODS["moco"], {"steps": 1, "precision": Precision.FP16}), tmp_path)
    trainer._step.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**100)
    module = trainer._step.module
    before = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    assert isinstance(module.loss, nn.Module)
    queue = module.loss.get_buffer("queue").clone()
    trainer.fit()
    assert not [name for name, tensor in module.named_parameters() if not torch.equal(tensor, before[name])]
    assert torch.equal(module.loss.get_buffer("queue"), queue)
    assert trainer._step.scaler.get_scale() == 2.0**99


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_that_failed_is_replayed_on_the_cpu(device: Device, tmp_path: Path) -> None:
    fields = {"callbacks": [NaNGuardConf()], "optimizer.rate.lr": 1e30, "steps": 9}
    with pytest.raises(NonFiniteLossError) as caught:
        launch(on(device, METHODS["rotnet"], tmp_path, **fields))
    assert not torch.isfinite(replay(caught.value.bundle).loss)


@gpu
def test_measures_are_those_of_the_cpu(tmp_path: Path) -> None:
    """kNN, linear and retrieval on features that the card computed: a few images of 16 may be on an edge."""
    weights = launch(on(Device.CPU, tiny(steps=3), tmp_path / "run")).folder
    for kind, fields in (
        (KNNEvalConf, {"ks": [3]}),
        (LinearEvalConf, {"epochs": 5, "batch_size": 16}),
        (RetrievalEvalConf, {}),
    ):
        found: dict[Device, Mapping[str, float]] = {}
        for device in (Device.CPU, Device.CUDA):
            task = kind(weights=weights, data=labelled(80), output=tmp_path / device.value)
            found[device] = launch(replaced(task, {**fields, "distributed.device": device}), name="task").metrics
        assert found[Device.CUDA] == pytest.approx(found[Device.CPU], abs=15)

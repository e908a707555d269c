"""The watch in a run: what it sees, over ranks and restarts, how it stops a run, and that it moves nothing."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from methods import METHODS
from ranks import run_on_ranks
from stops import StopConf
from tiny import TORCHRUN, sha256, tiny, tiny_trainer

from ssltyped import config
from ssltyped.config import ConfigError, config_for
from ssltyped.engine.alarms import WatchConf
from ssltyped.engine.callbacks.collapse_watch import (
    CollapseWatchConf,
    of_centre,
    of_images,
    of_loss,
)
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.figures import Figure
from ssltyped.engine.trainer import Outcome
from ssltyped.experiment import Experiment
from ssltyped.launch import launch
from ssltyped.meters.representation import rankme, spread
from ssltyped.resolution import resolve_experiment
from ssltyped.run import main
from ssltyped.types import Batch, Callback, Loss, LossRange, Model, Moment, StepOutput


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


EARLY = CollapseWatchConf(every_steps=1, images=16)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_watched_and_not_moved(name: str, tmp_path: Path) -> None:
    asked = config.replaced(METHODS[name], {"output": tmp_path / "watched", "callbacks": [EARLY]})
    watched = launch(asked)
    found = {key.removeprefix("watch_") for key in watched.metrics if key.startswith("watch_")}
    assert {"feature_rank", "feature_std", "update_size", "input_std"} <= found
    assert SIGNALS.get(name, set()) == found & ONLY_THE_METHOD_KNOWS
    assert all(math.isfinite(watched.metrics[f"watch_{figure}"]) for figure in found)
    alone = launch(config.replaced(METHODS[name], {"output": tmp_path / "alone"}))
    assert sha256(alone.folder / "weights.pt") == sha256(watched.folder / "weights.pt")


ONLY_THE_METHOD_KNOWS = {
    *("prototype_use", "target_information", "teacher_agreement", "teacher_lag", "centre_offset", "queue_refresh")
}
TAUGHT = {"prototype_use", "target_information", "teacher_agreement", "teacher_lag"}
SIGNALS: Mapping[str, set[str]] = {
    "moco": {"teacher_agreement", "teacher_lag", "queue_refresh"},
    "swav": {"prototype_use", "target_information", "queue_refresh"},
    "swav_momentum": {"prototype_use", "target_information", "queue_refresh", "teacher_lag"},
    "deepcluster_v2": {"queue_refresh"},
    "npid": {"queue_refresh"},
    "pirl": {"queue_refresh"},
    "dino": TAUGHT | {"centre_offset"},
    "ibot": TAUGHT | {"centre_offset"},
    "msn": TAUGHT,
}


class Peek(Callback):
    """Computes two figures of the newest batch itself."""

    every_rank = True
    reads = ("flatten",)

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_loss(self, state: object, batch: Batch, output: StepOutput) -> None:
        first = output.features["flatten"][: len(batch.index)]
        z = output.outputs["projector"][0][: len(batch.index)]
        assert not z.requires_grad
        self.seen.append((rankme(first), float(spread(z))))


PeekConf = config_for(Peek)


def test_the_figures_are_those_of_the_rows_that_the_step_made(tmp_path: Path) -> None:
    watch = CollapseWatchConf(every_steps=1, images=8)
    trainer = tiny_trainer(tiny(output=tmp_path, steps=3, callbacks=[watch, PeekConf()]), tmp_path)
    trainer.fit()
    (peek,) = (callback for callback in trainer._callbacks if isinstance(callback, Peek))
    rank, std = peek.seen[-1]
    assert trainer.metrics["watch_feature_rank"] == pytest.approx(rank, rel=1e-5)
    assert trainer.metrics["watch_embedding_std"] == pytest.approx(std, rel=1e-5)


def test_it_logs_once_an_epoch(tmp_path: Path) -> None:
    trainer = tiny_trainer(tiny(output=tmp_path, steps=5, callbacks=[CollapseWatchConf(every_steps=2)]), tmp_path)
    trainer.fit()
    assert trainer._logged_at["watch_feature_std"] == 5
    assert trainer.metrics["watch_update_size"] > 0


def on_rank(folder: Path) -> dict[str, float]:
    asked = watched_on(2, folder)
    trainer = tiny_trainer(asked, folder)
    trainer.fit()
    return {key: value for key, value in trainer.metrics.items() if key.startswith("watch_")}


def watched_on(ranks: int, folder: Path) -> Experiment:
    fields = {"distributed.num_procs": ranks, "data.train.batch_size": 8 // ranks, "loss.shuffle": False}
    return config.replaced(METHODS["moco"], {**fields, "output": folder, "steps": 3, "callbacks": [EARLY]})


def test_two_ranks_see_what_one_process_sees(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    alone = tiny_trainer(watched_on(1, tmp_path), tmp_path / "one")
    alone.fit()
    (tmp_path / "two").mkdir()
    first, second = run_on_ranks(on_rank, 2, tmp_path / "two")
    assert first == second
    assert len(first) >= 10
    for key, value in first.items():
        loose = key in ("watch_input_offset", "watch_input_std", "watch_loss_margin", "watch_loss_excess")
        assert value == pytest.approx(alone.metrics[key], rel=0.3 if loose else 2e-3, abs=1e-4), key


def test_stopped_and_gone_on_it_sees_the_same(tmp_path: Path) -> None:
    """With its buffers, and with what it has counted: the checkpoints are bitwise the same."""
    save = {"checkpoints": CheckpointsConf(every_steps=1, keep=9)}
    watch = CollapseWatchConf(every_steps=3, images=64)
    asked = config.replaced(METHODS["moco"], {**save, "steps": 7, "output": tmp_path / "whole", "callbacks": [watch]})
    whole = launch(asked)
    stop = StopConf(at=4, number=signal.SIGTERM)
    cut = config.replaced(asked, {"output": tmp_path / "cut", "callbacks": [watch, stop]})
    assert launch(cut).outcome is Outcome.INTERRUPTED
    again = launch(cut)
    states = []
    for folder in (whole.folder, again.folder):
        state = torch.load(folder / "checkpoints" / "step_00000007" / "state.pt", weights_only=True)["callbacks"]
        states += [one for name, one in state.items() if name.startswith("CollapseWatch")]
    assert same(*states)
    assert states[0]["recent"]["features"]["length"] == 8
    watched = [key for key in whole.metrics if key.startswith("watch_")]
    assert [again.metrics[key] for key in watched] == [whole.metrics[key] for key in watched]


def same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other or (one != one and other != other)


def test_a_stop_ends_the_run_with_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = ["callbacks.0.watches=[Watch]", "callbacks.0.watches.0.figure=feature_rank"]
    policy += ["callbacks.0.watches.0.lowest=1000", "callbacks.0.watches.0.action=stop"]
    few = ["callbacks.0.every_steps=1", "checkpoints.every_steps=1", "steps=6", "epochs=null"]
    code = main(["tiny", f"output={tmp_path}", "callbacks=[CollapseWatch]", *policy, *few])
    out, err = capsys.readouterr()
    assert code == 1
    assert err.startswith("error: tiny failed: feature_rank is ")
    assert re.search(
        r"below 1000, from step 1 to 3: all images get nearly the same output. Usual causes: a target", err
    )
    assert "Traceback" not in out + err
    assert "RankMe" in err
    kept = sorted(path.name for path in (tmp_path / "tiny" / "checkpoints").iterdir() if path.is_dir())
    assert "step_00000003" not in kept, "what went wrong is not saved over what was well"
    assert "step_00000002" in kept


def test_a_warning_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = WatchConf(figure=Figure.FEATURE_RANK, lowest=1000.0)
    launch(tiny(output=tmp_path, steps=6, callbacks=[CollapseWatchConf(every_steps=1, watches=[policy])]))
    assert len(re.findall("^warning: feature_rank is ", capsys.readouterr().out, re.MULTILINE)) == 1


def test_one_policy_a_figure() -> None:
    twice = CollapseWatchConf(watches=[WatchConf(figure=Figure.UPDATE_SIZE), WatchConf(figure=Figure.UPDATE_SIZE)])
    with pytest.raises(ConfigError, match=r"callbacks.0.watches: has update_size 2 times: one policy a figure"):
        resolve_experiment(tiny(callbacks=[twice]))


class Collapsed(Loss):
    """Learns nothing.

    Args:
        head: that is read.
        value: of the loss.
    """

    def __init__(self, *, head: str = "projector", value: float = math.log(7)) -> None:
        super().__init__()
        self.head, self.value = head, value

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        z = model(batch.views, heads=[self.head]).of(self.head)
        expected = LossRange(highest=9.0, uniform=math.log(7), remedy="do less")
        return StepOutput(loss=0 * z.sum() + self.value, expected=expected)


CollapsedConf = config_for(Collapsed)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (math.log(7), r"loss_margin is [0-9.e-]+, below 0.01, from step 1 to 10: nothing is learned"),
        (983.0, r"loss_excess is 974, above 0, from step 1 to 3: do less"),
    ],
)
def test_a_loss_at_rest_or_out_of_its_range_is_told(
    value: float, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(tiny(output=tmp_path, steps=12, loss=CollapsedConf(value=value), callbacks=[EARLY]))
    assert re.search(line, capsys.readouterr().out)


@pytest.mark.parametrize(
    ("loss", "known", "excess", "margin"),
    [
        (9.0, LossRange(highest=9.0, uniform=5.0), -0.09, 4.0),
        (983.0, LossRange(highest=9.0), 973.91, None),
        (-3.0, LossRange(highest=9.0), 2.99, None),
        (1e9, LossRange(lowest=-math.inf), None, None),
        (math.nan, LossRange(highest=9.0, uniform=5.0), None, None),
        (5.0, None, None, None),
    ],
)
def test_the_figures_of_a_loss(
    loss: float, known: LossRange | None, excess: float | None, margin: float | None
) -> None:
    found = dict(of_loss(loss, known))
    wanted = {Figure.LOSS_EXCESS: excess, Figure.LOSS_MARGIN: margin}
    assert found == pytest.approx({figure: value for figure, value in wanted.items() if value is not None})


def test_the_figures_of_images() -> None:
    noise = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    moved = noise.flip(0)
    assert dict(of_images([noise, moved]))[Figure.SAME_VIEWS] == 0
    half = torch.where(torch.arange(8)[:, None, None, None] < 4, noise, moved)
    found = dict(of_images([2 * noise + 5, 2 * half + 5 + 1e-4, torch.zeros(8, 3, 2, 2)]))
    assert found[Figure.SAME_VIEWS] == 0.5, "of the views of one size"
    assert found[Figure.INPUT_STD] == pytest.approx(2, rel=0.1)
    assert found[Figure.INPUT_OFFSET] == pytest.approx(5, rel=0.1)
    assert Figure.SAME_VIEWS not in dict(of_images([noise]))


def test_the_offset_of_a_centre() -> None:
    outputs = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0)) + 3
    deviation = math.sqrt(6)
    assert of_centre(outputs, torch.full((1, 6), 3.0)) == pytest.approx(0, abs=0.05)
    assert of_centre(outputs, torch.zeros(1, 6)) == pytest.approx(3 * math.sqrt(6) / deviation, rel=0.05)


def test_accumulated_batches_are_seen_too(tmp_path: Path) -> None:
    fields = {"accumulation": 2, "data.train.batch_size": 4, "steps": 3, "output": tmp_path}
    asked = config.replaced(METHODS["moco"], {**fields, "callbacks": [EARLY]})
    found = launch(asked).metrics
    assert found["watch_queue_refresh"] == 1, "the rows of both batches were written"

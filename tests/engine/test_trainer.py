"""The training loop: rates, moments, restarts that change nothing, and what it reports."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

import pytest
import torch
from tiny import PatchesConf, sha256, start_cli, tiny, tiny_trainer

from ssltyped.config import INFERRED, config_for
from ssltyped.config.overrides import override
from ssltyped.engine.callbacks.metrics_file import MetricsFileConf
from ssltyped.engine.checkpoint import CheckpointsConf, CheckpointStore, load
from ssltyped.engine.trainer import Outcome, Trainer
from ssltyped.launch import launch
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.run import main
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.types import Batch, Callback, Carry, Model, Moment, StepOutput, Subset, TrainState, Update


class Moments(SimCLRLoss):
    """SimCLR that notes when it is called.

    Args:
        head: of SimCLR.
        temperature: of SimCLR.
        chunk_size: of SimCLR.
    """

    def __init__(self, *, head: str = INFERRED, temperature: float = 0.2, chunk_size: int = INFERRED) -> None:
        super().__init__(head=head, temperature=temperature, chunk_size=chunk_size)
        self.calls = list[str]()

    def on_train_start(self, model: Model, batches: Callable[[], Iterator[Batch]]) -> None:
        self.calls.append("train")

    def on_epoch_start(self, model: Model, moment: Moment) -> None:
        self.calls.append(f"epoch {moment.epoch}")

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        self.calls.append(f"{moment.progress_after:.3f}")


MomentsConf = config_for(Moments)


class Probe(Callback):
    """Notes everything, and raises a signal or an error where it is asked to.

    Args:
        at: after which step it does what it is asked to.
        signals: the signals that it raises there.
        fail: whether it fails there.
    """

    every_rank = True

    def __init__(
        self,
        *,
        at: Optional[int] = None,
        signals: list[int] = [],  # noqa: B006  # never changed
        fail: bool = False,
    ) -> None:
        self.at, self.signals, self.fail = at, signals, fail
        self.calls, self.losses = list[str](), list[float]()
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.index: list[list[int]] = []

    def on_train_start(self, state: TrainState) -> None:
        self.calls.append(f"start {state.step}")

    def on_step_start(self, state: TrainState, batch: Batch) -> None:
        self.index.append(batch.index.tolist())

    def on_loss(self, state: TrainState, batch: Batch, output: StepOutput) -> None:
        self.losses.append(float(output.loss.detach()))

    def on_step_end(self, state: TrainState) -> None:
        if state.step == self.at:
            for number in self.signals:
                signal.raise_signal(number)
            if self.fail:
                raise RuntimeError("a callback fails")

    def on_metrics(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        self.rows.append((state.step, dict(metrics)))

    def on_epoch_end(self, state: TrainState) -> None:
        self.calls.append(f"epoch {state.epoch}")

    def on_train_end(self, state: TrainState) -> None:
        self.calls.append("end")


ProbeConf = config_for(Probe)


def probe_of(trainer: Trainer) -> Probe:
    (probe,) = trainer._callbacks
    assert isinstance(probe, Probe)
    return probe


def state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """All that a next step depends on."""
    moments = {
        f"{key}.{name}": value.clone()
        for key, entry in trainer._step.optimizer.state.items()
        for name, value in entry.items()
        if isinstance(value, torch.Tensor)
    }
    return {
        **{name: value.clone() for name, value in trainer._step.module.state_dict().items()},
        **{f"moment {index}": value for index, value in enumerate(moments.values())},
    }


def module_state(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer._step.module.state_dict().items()}


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def checkpoint(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step_{step:08d}"


# --- one run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", Update)
def test_rate_of_every_step(update: Update, tmp_path: Path) -> None:
    """That of the schedule at the progress of the step, or of the start of its epoch; 3 steps an epoch."""
    asked = tiny(epochs=3, schedule=CosineConf(update=update, start=0.05), callbacks=[ProbeConf()])
    trainer = tiny_trainer(asked, tmp_path)
    assert trainer.fit() is Outcome.FINISHED
    steps = range(9) if update is Update.STEP else [0, 0, 0, 3, 3, 3, 6, 6, 6]
    wanted = [0.05 * (1 + torch.cos(torch.tensor(torch.pi * step / 9))) / 2 for step in steps]
    rates = [row["lr"] for _, row in probe_of(trainer).rows]
    assert rates == pytest.approx([float(rate) for rate in wanted], rel=1e-5)


def test_moments_of_a_method(tmp_path: Path) -> None:
    trainer = tiny_trainer(tiny(epochs=2, loss=MomentsConf()), tmp_path)
    trainer.fit()
    loss = trainer.loss
    assert isinstance(loss, Moments)
    assert loss.calls == ["train", "epoch 0", "0.167", "0.333", "0.500", "epoch 1", "0.667", "0.833", "1.000"]


def test_moments_of_a_callback(tmp_path: Path) -> None:
    """The end of a begun epoch, where the run ends, is the end of an epoch too."""
    trainer = tiny_trainer(tiny(steps=7, callbacks=[ProbeConf()]), tmp_path)
    trainer.fit()
    assert probe_of(trainer).calls == ["start 0", "epoch 1", "epoch 2", "epoch 2", "end"]
    assert [step for step, _ in probe_of(trainer).rows] == [1, 2, 3, 4, 5, 6, 7]


def test_an_epoch_reads_every_image_once(tmp_path: Path) -> None:
    trainer = tiny_trainer(tiny(epochs=2, callbacks=[ProbeConf()]), tmp_path)
    trainer.fit()
    index = torch.tensor(probe_of(trainer).index).reshape(2, 24)
    assert [sorted(epoch) for epoch in index.tolist()] == [list(range(24))] * 2
    assert not torch.equal(index[0], index[1])


def test_logged_loss_is_the_mean_of_the_step(tmp_path: Path) -> None:
    asked = tiny(steps=4, batch_size=4, loss=MoCoLossConf(queue_size=24), callbacks=[ProbeConf()])
    asked = override(asked, ["accumulation=2", "log_every=3"])
    trainer = tiny_trainer(asked, tmp_path)
    trainer.fit()
    probe = probe_of(trainer)
    assert [step for step, _ in probe.rows] == [3, 4], "every third, and the last"
    assert len(probe.losses) == 8
    assert [row["loss"] for _, row in probe.rows] == pytest.approx(
        [sum(probe.losses[4:6]) / 2, sum(probe.losses[6:8]) / 2]
    )
    assert trainer.metrics["loss"] == pytest.approx(sum(probe.losses[6:8]) / 2)
    assert trainer.metrics["images_per_s"] > 0
    assert trainer.first["loss"] == probe.rows[0][1]["loss"]


def test_nothing_is_left_of_the_seed(tmp_path: Path) -> None:
    """The same recipe gives the same weights, another seed others, whatever was drawn before."""
    ends = []
    for number, seed in enumerate((0, 0, 1)):
        torch.rand(number + 1)
        trainer = tiny_trainer(override(tiny(steps=2), [f"seed={seed}"]), tmp_path / str(number))
        trainer.fit()
        ends.append(state_of(trainer))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


# --- stopping and going on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_interrupted_and_resumed_is_uninterrupted(at: int, tmp_path: Path) -> None:
    """In an epoch and at its end: bitwise the same weights and moments."""
    whole = tiny_trainer(tiny(steps=6, loss=MomentsConf()), tmp_path / "whole")
    whole.fit()
    asked = tiny(steps=6, loss=MomentsConf(), callbacks=[ProbeConf(at=at, signals=[signal.SIGTERM])])
    first = tiny_trainer(asked, tmp_path / "cut")
    assert first.fit() is Outcome.INTERRUPTED
    assert first.step == at
    assert probe_of(first).calls[-1] == "end"
    second = tiny_trainer(asked, tmp_path / "cut")
    assert second.fit(checkpoint(tmp_path / "cut", at)) is Outcome.FINISHED
    assert probe_of(second).calls[0] == f"start {at}"
    assert same(state_of(second), state_of(whole))
    moments, again, cut = whole.loss, second.loss, first.loss
    assert isinstance(moments, Moments)
    assert isinstance(again, Moments)
    assert isinstance(cut, Moments)
    assert again.calls[0] == "train"
    assert cut.calls + again.calls[1:] == moments.calls, "the start of an epoch is said once"


def test_an_interrupt_in_the_last_step_changes_nothing(tmp_path: Path) -> None:
    trainer = tiny_trainer(tiny(steps=2, callbacks=[ProbeConf(at=2, signals=[signal.SIGINT])]), tmp_path)
    assert trainer.fit() is Outcome.FINISHED


def test_a_second_ctrl_c_aborts(tmp_path: Path) -> None:
    asked = tiny(steps=4, callbacks=[ProbeConf(at=1, signals=[signal.SIGINT, signal.SIGINT])])
    trainer = tiny_trainer(asked, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert probe_of(trainer).calls[-1] == "end"
    assert not checkpoint(tmp_path, 1).exists()


def test_signals_are_handled_only_while_it_trains(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    asked = tiny(steps=2, callbacks=[ProbeConf(at=1, fail=True)])
    with pytest.raises(RuntimeError, match="a callback fails"):
        tiny_trainer(asked, tmp_path).fit()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_finished_run_has_nothing_to_do(tmp_path: Path) -> None:
    first = tiny_trainer(tiny(steps=3), tmp_path)
    first.fit()
    again = tiny_trainer(tiny(steps=3, callbacks=[ProbeConf()]), tmp_path)
    assert again.fit(checkpoint(tmp_path, 3)) is Outcome.FINISHED
    assert same(state_of(again), state_of(first))
    assert not probe_of(again).losses
    assert again.metrics == first.metrics


def test_a_finished_run_says_that_nothing_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_trainer(tiny(steps=3), tmp_path).fit()
    capsys.readouterr()
    tiny_trainer(tiny(steps=3), tmp_path).fit(checkpoint(tmp_path, 3))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("nothing is left to train: ")
    assert line.endswith("step 3 of 3 (after 1 epochs)")


@pytest.mark.parametrize(("batch", "seen"), [(4, 12), (12, 4)])
def test_another_batch_goes_on_at_the_same_image(batch: int, seen: int, tmp_path: Path) -> None:
    """Two epochs in steps of 8, then two in steps of `batch`: each of the four shows every image once."""
    tiny_trainer(tiny(epochs=2), tmp_path).fit()
    second = tiny_trainer(tiny(epochs=4, batch_size=batch, callbacks=[ProbeConf()]), tmp_path)
    assert second.fit(checkpoint(tmp_path, 6)) is Outcome.FINISHED
    assert probe_of(second).calls[0] == f"start {seen}"
    assert second.step == 96 // batch
    assert len(probe_of(second).losses) == 48 // batch
    assert second.images == 96


def test_in_the_middle_of_a_pass_less_than_a_step_is_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 of 24 images are seen: a step of 12 is done, 4 images come again."""
    first = tiny_trainer(tiny(steps=3, checkpoints=CheckpointsConf(every_steps=1)), tmp_path)
    first.fit()
    capsys.readouterr()
    second = tiny_trainer(tiny(epochs=2, batch_size=12), tmp_path)
    second.fit(checkpoint(tmp_path, 2))
    assert capsys.readouterr().out.startswith("goes on from step 1 of 4 (after 0.5 epochs), ")
    assert second.step == 4


def test_a_run_that_goes_on_with_a_larger_batch_has_a_checkpoint_at_once(tmp_path: Path) -> None:
    """Killed before its first save it goes on from there, and callbacks have what was kept of them."""
    kept = tiny(epochs=2, checkpoints=CheckpointsConf(keep=1), callbacks=[ProbeConf()])
    tiny_trainer(kept, tmp_path).fit()
    asked = tiny(epochs=2, batch_size=12, checkpoints=CheckpointsConf(keep=1), callbacks=[ProbeConf()])
    again = tiny_trainer(asked, tmp_path)
    assert again.fit(checkpoint(tmp_path, 6)) is Outcome.FINISHED
    newest = CheckpointStore(tmp_path / "checkpoints").newest()
    assert newest == checkpoint(tmp_path, 4)
    third = tiny_trainer(asked, tmp_path)
    third.fit(newest)
    assert same(state_of(third), state_of(again))


@pytest.mark.parametrize(
    ("step", "batch", "here", "left"),
    [
        (3, 4, 6, [6, 12]),  # the run has a step 6, of 8 images
        (3, 7, 3, [3, 6]),  # it takes the place of the one that it goes on from
        (2, 16, 1, [1, 2]),  # before others
        (2, 8, 2, [2, 3, 6]),
    ],
)
def test_a_run_goes_on_from_an_earlier_checkpoint_of_its_own(
    step: int, batch: int, here: int, left: list[int], tmp_path: Path
) -> None:
    """`resume=` of one of the folder's own: what it has done since is put aside, also where it has the same number."""
    every = CheckpointsConf(every_steps=1, keep=9)
    launch(tiny(output=tmp_path, checkpoints=every))
    own = tmp_path / "tiny"
    asked = tiny(output=tmp_path, batch_size=batch, checkpoints=CheckpointsConf(keep=9), callbacks=[MetricsFileConf()])
    run = launch(override(asked, [f"resume={checkpoint(own, step)}"]))
    assert run.outcome is Outcome.FINISHED
    found = {
        ending: {int(path.stem[-8:]) for path in (own / "checkpoints").iterdir() if path.suffix == ending}
        for ending in ("", ".aside")
    }
    assert found[""] == {*range(1, here), *left}
    assert found[".aside"] >= set(range(here + 1, 7)), "what it has done since"
    again = launch(override(asked, ["name=again", f"resume={checkpoint(own, here)}"]))
    assert sha256(again.folder / "weights.pt") == sha256(run.folder / "weights.pt")
    rows = [json.loads(line) for line in (own / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(here + 1, 2 * (24 // batch) + 1))


def test_what_goes_on_from_another_run_has_a_checkpoint_of_its_own_at_once(tmp_path: Path) -> None:
    """In the place of one that the folder has of the same step: killed, it would go on from that."""
    first = tiny_trainer(tiny(steps=3), tmp_path / "first")
    first.fit()
    other = tiny_trainer(override(tiny(steps=3), ["seed=5"]), tmp_path / "second")
    other.fit()
    again = tiny_trainer(tiny(steps=6), tmp_path / "second")
    again._callbacks = [Probe(at=4, fail=True)]
    with pytest.raises(RuntimeError, match="a callback fails"):
        again.fit(checkpoint(tmp_path / "first", 3))
    found = [load(checkpoint(tmp_path / name, 3), torch.device("cpu"))["module"] for name in ("first", "second")]
    assert isinstance(found[0], dict)
    assert isinstance(found[1], dict)
    assert same(found[0], found[1])


def test_captured_state_is_a_copy(tmp_path: Path) -> None:
    """What is being written does not change when training goes on."""
    trainer = tiny_trainer(tiny(steps=3, checkpoints=CheckpointsConf(every_steps=1)), tmp_path)
    captured: list[dict[str, object]] = []
    frozen: list[bytes] = []

    def flat(tree: object) -> bytes:
        if isinstance(tree, torch.Tensor):
            return tree.numpy().tobytes()
        if isinstance(tree, Mapping):
            return b"".join(flat(item) for item in tree.values())
        return b"".join(map(flat, tree)) if isinstance(tree, list) else repr(tree).encode()

    def look(step: int, state: dict[str, object], *, best: bool = False) -> None:
        captured.append(state)
        frozen.append(flat(state))

    trainer._store.save = look  # type: ignore[method-assign,assignment]  # keeps what it is given
    trainer.fit()
    assert len(captured) == 3
    assert [flat(state) for state in captured] == frozen
    assert len(set(frozen)) == 3


@pytest.mark.parametrize(
    ("before", "after", "scale"),
    [("fp32", "fp16", 2.0**16), ("fp16", "fp32", 1.0), ("fp16", "fp16", 256.0), ("fp16", "bf16", 1.0)],
)
def test_a_run_goes_on_in_another_precision(before: str, after: str, scale: float, tmp_path: Path) -> None:
    """Without a scale in its checkpoint fp16 starts with its own; one that is not needed is left out."""
    first = tiny_trainer(override(tiny(steps=3), [f"precision={before}"]), tmp_path)
    if before == "fp16":
        first._step.scaler.load_state_dict({**first._step.scaler.state_dict(), "scale": 256.0})
    first.fit()
    second = tiny_trainer(override(tiny(steps=6), [f"precision={after}"]), tmp_path)
    second.restore(load(checkpoint(tmp_path, 3), torch.device("cpu")))
    assert second._step.scaler.get_scale() == scale
    assert same(module_state(second), module_state(first))
    second = tiny_trainer(override(tiny(steps=6), [f"precision={after}"]), tmp_path)
    assert second.fit(checkpoint(tmp_path, 3)) is Outcome.FINISHED
    assert second._step.scaler.is_enabled() is (after == "fp16")
    moved = {name for name, value in module_state(second).items() if not torch.equal(value, module_state(first)[name])}
    assert moved >= {name for name, _ in second._step.module.named_parameters()}
    assert all(bool(torch.isfinite(value).all()) for value in module_state(second).values())


def test_settings_are_the_recipes_after_a_resume(tmp_path: Path) -> None:
    """Going on from a path with another weight decay: the moments are the old ones, the settings the new."""
    first = tiny_trainer(tiny(steps=3, optimizer=SGDConf(rate=RateConf(lr=0.05), weight_decay=1e-4)), tmp_path / "a")
    first.fit()
    second = tiny_trainer(
        tiny(steps=6, optimizer=SGDConf(rate=RateConf(lr=0.05), weight_decay=0.3, momentum=0.5)), tmp_path / "b"
    )
    second.fit(checkpoint(tmp_path / "a", 3))
    groups = second._step.optimizer.param_groups
    assert max(group["weight_decay"] for group in groups) == 0.3
    assert {group["momentum"] for group in groups} == {0.5}
    assert second.step == 6


@pytest.mark.parametrize(("name", "best"), [("loss", min), ("z_std", max)])
def test_the_best_stays(name: str, best: Callable[[Sequence[float]], float], tmp_path: Path) -> None:
    asked = tiny(epochs=5, checkpoints=CheckpointsConf(keep=1, best=name), callbacks=[ProbeConf()])
    trainer = tiny_trainer(asked, tmp_path)
    trainer.fit()
    values = {step: row[name] for step, row in probe_of(trainer).rows if step % 3 == 0}
    (wanted,) = [step for step, value in values.items() if value == best(list(values.values()))]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    assert kept == sorted({f"step_{wanted:08d}", "step_00000015"})
    assert (tmp_path / "checkpoints" / "best.txt").read_text() == f"step_{wanted:08d}"


def test_a_failed_write_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next checkpoint at the latest; the callbacks still learn that the run has ended."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    asked = tiny(steps=9, checkpoints=CheckpointsConf(every_steps=1), callbacks=[ProbeConf()])
    trainer = tiny_trainer(asked, tmp_path)
    with pytest.raises(OSError, match="No space left on device"):
        trainer.fit()
    assert trainer.step in (1, 2), "in the step in which it fails, or the next"
    assert probe_of(trainer).calls[-1] == "end"


# --- reports and features -----------------------------------------------------------------------------------


def test_unreadable_images_are_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By path, though they are met in every epoch; no batch holds them."""
    asked = tiny(epochs=4, source=PatchesConf(broken=[3, 17]), callbacks=[ProbeConf()])
    trainer = tiny_trainer(asked, tmp_path)
    trainer.fit()
    rows = [json.loads(line) for line in (tmp_path / "unreadable_rank0.jsonl").read_text().splitlines()]
    assert sorted(row["path"] for row in rows) == ["patches/17.png", "patches/3.png"]
    assert {row["reason"] for row in rows} == {"cut short"}
    assert {row["index"] for row in rows} == {3, 17}
    said = capsys.readouterr().out
    assert said.count("patches/3.png") == said.count("patches/17.png") == 1
    seen = [image for batch in probe_of(trainer).index for image in batch]
    assert not {3, 17} & set(seen)
    assert trainer.metrics["unreadable_images"] == 2.0


def test_unreadable_images_of_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = tiny_trainer(override(tiny(evaluated=True), ["data.val.source.broken=[4]"]), tmp_path)
    features, labels = trainer.features(Subset.VAL)
    assert len(features) == len(labels) == 9
    assert "patches/4.png" in capsys.readouterr().out


def test_features(tmp_path: Path) -> None:
    """Of every image in order, by the frozen trunk in eval mode, which is then as it was."""
    trainer = tiny_trainer(tiny(evaluated=True), tmp_path)
    trainer.model.trunk.eval()
    modes = [module.training for module in trainer.model.modules()]
    before = state_of(trainer)
    features, labels = trainer.features(Subset.TRAIN)
    assert [module.training for module in trainer.model.modules()] == modes
    assert same(state_of(trainer), before), "no statistics move"
    assert labels.tolist() == [index % 4 for index in range(24)]
    assert features.shape == (24, 64)
    assert not features.requires_grad
    few, _ = trainer.features(Subset.VAL)
    torch.testing.assert_close(few, features[:10])


# --- as a user runs it --------------------------------------------------------------------------------------

LONG = ["tiny", "steps=30", "epochs=null", "callbacks=[ProgressBar,MetricsFile]"]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_signal_saves_and_the_same_command_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    command = [*LONG, f"output={tmp_path}"]
    process = start_cli(*command)
    assert process.stdout is not None
    for line in process.stdout:
        if "step 4/30" in line:
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert not err
    assert "interrupted, and saved in" in out
    (saved,) = [path for path in (tmp_path / "tiny" / "checkpoints").iterdir() if path.is_dir()][-1:]
    assert not (tmp_path / "tiny" / "weights.pt").exists()
    assert json.loads((tmp_path / "tiny" / "result.json").read_text())["outcome"] == "interrupted"
    assert (saved / "state.pt").exists()
    assert main(command) == 0
    whole = launch(override(tiny(output=tmp_path / "whole"), ["steps=30", "epochs=null"]))
    assert sha256(tmp_path / "tiny" / "weights.pt") == sha256(whole.folder / "weights.pt")
    steps = [json.loads(line)["step"] for line in (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 31))

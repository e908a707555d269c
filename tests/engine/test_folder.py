"""The folder of a run: where it goes on from, what is refused, what may change."""

from __future__ import annotations

from pathlib import Path

import pytest
from methods import vit
from tiny import PatchesConf, tiny

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.overrides import override
from ssltyped.engine.callbacks.nan_guard import NaNGuardConf
from ssltyped.engine.checkpoint import CheckpointsConf, CheckpointStore
from ssltyped.engine.folder import Start, finished, prepare, write_result
from ssltyped.engine.position import Position
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.resolution import resolve_experiment


def start(output: Path, asked: Experiment, resume: str = "auto") -> Start:
    resolution = resolve_experiment(asked, "tiny")
    with prepare(
        output=output,
        name="tiny",
        resume=resume,
        asked=config.to_yaml(asked),
        resolved=config.to_yaml(resolution.config),
        inferences=resolution.to_json(),
        end=Position(resolution.config.steps or 0, 3, 8, 24),
    ) as begun:
        return begun


def save(folder: Path, *steps: int) -> None:
    store = CheckpointStore(folder / "checkpoints", keep=10)
    for step in steps:
        store.save(step, {"step": step})
    store.wait()


def test_first_start(tmp_path: Path) -> None:
    begun = start(tmp_path, tiny())
    assert begun == Start(folder=tmp_path / "tiny", resume=None)
    assert {path.name for path in begun.folder.iterdir()} == {"asked.yaml", "resolved.yaml", "inferences.json"}


def test_goes_on_from_the_newest_valid(tmp_path: Path) -> None:
    folder = start(tmp_path, tiny()).folder
    save(folder, 2, 4)
    assert start(tmp_path, tiny()).resume == folder / "checkpoints" / "step_00000004"
    (folder / "checkpoints" / "step_00000004" / "state.pt").write_bytes(b"")
    assert start(tmp_path, tiny()).resume == folder / "checkpoints" / "step_00000002"


def test_never_takes_a_new_folder(tmp_path: Path) -> None:
    first = start(tmp_path, tiny(), "never")
    save(first.folder, 2)
    second = start(tmp_path, tiny(), "never")
    third = start(tmp_path, tiny(), "never")
    assert [first.folder.name, second.folder.name, third.folder.name] == ["tiny", "tiny-2", "tiny-3"]
    assert second.resume is third.resume is None


def test_resume_of_a_path(tmp_path: Path) -> None:
    """A checkpoint is taken as it is, a run's folder stands for its newest; the config may be another."""
    elsewhere = start(tmp_path / "elsewhere", tiny()).folder
    save(elsewhere, 2, 4)
    other = tiny(epochs=3)
    old = elsewhere / "checkpoints" / "step_00000002"
    assert start(tmp_path, other, str(old)) == Start(folder=tmp_path / "tiny", resume=old)
    assert start(tmp_path, other, str(elsewhere)).resume == elsewhere / "checkpoints" / "step_00000004"


def test_resume_of_what_is_no_checkpoint(tmp_path: Path) -> None:
    for wrong in ("atuo", str(tmp_path / "nothing")):
        with pytest.raises(ConfigError, match=r"resume: got '.*': auto, never, a checkpoint or a run's folder"):
            start(tmp_path, tiny(), wrong)
    assert not (tmp_path / "tiny").exists(), "nothing is written by a start that fails"


def test_resume_of_a_damaged_checkpoint(tmp_path: Path) -> None:
    """Asked for by name it is an error, and no other is taken in its place."""
    folder = start(tmp_path, tiny()).folder
    save(folder, 2, 4)
    asked = folder / "checkpoints" / "step_00000004"
    (asked / "state.pt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"resume: .*step_00000004 is damaged: state.pt is not what was written"):
        start(tmp_path, tiny(), str(asked))


@pytest.mark.parametrize("asked", ["step_00000002", "."])
def test_resume_of_the_checkpoint_or_the_folder_that_it_runs_in(asked: str, tmp_path: Path) -> None:
    """A later checkpoint of the same folder is of what is done again, and what changed is taken from the folder."""
    folder = start(tmp_path, tiny()).folder
    save(folder, 2, 4)
    checkpoints = folder / "checkpoints"
    begun = start(tmp_path, tiny(epochs=3), str(checkpoints / asked) if asked != "." else str(folder))
    assert begun == Start(folder=folder, resume=checkpoints / ("step_00000004" if asked == "." else asked))


def test_another_config_is_refused_with_its_fields(tmp_path: Path) -> None:
    folder = start(tmp_path, tiny()).folder
    save(folder, 2)
    before = (folder / "asked.yaml").read_text()
    changed = override(tiny(epochs=3), ["loss.temperature=0.5", "optimizer.rate.lr=0.1"])
    with pytest.raises(ConfigError) as caught:
        start(tmp_path, changed)
    problems = {problem.path: problem.message for problem in caught.value.problems}
    assert problems["loss.temperature"] == "was 0.2, is now 0.5"
    assert problems["optimizer.rate.lr"] == "was 0.05, is now 0.1"
    assert problems["epochs"] == "was 2, is now 3"
    assert problems["steps"] == "was 6, is now 9"
    assert set(problems) == {"resume", "loss.temperature", "optimizer.rate.lr", "epochs", "steps"}
    assert "name=NEW" in problems["resume"]
    assert (folder / "asked.yaml").read_text() == before, "the folder is as it was"


def test_before_the_first_checkpoint_anything_may_change(tmp_path: Path) -> None:
    start(tmp_path, tiny())
    begun = start(tmp_path, tiny(epochs=3))
    assert "epochs: 3" in (begun.folder / "asked.yaml").read_text()


FREE = {
    "workers": override(tiny(), ["data.train.num_workers=3"]),
    "log_every": override(tiny(), ["log_every=5"]),
    "callbacks": tiny(callbacks=[NaNGuardConf()]),
    "checkpoints": tiny(checkpoints=CheckpointsConf(every_steps=1, keep=5)),
    "ranks": override(tiny(batch_size=4), ["distributed.num_procs=2"]),
}


@pytest.mark.parametrize("what", FREE)
def test_free_to_change(what: str, tmp_path: Path) -> None:
    """Where and how fast it trains is no part of what it computes; two ranks of 4 images are one of 8."""
    save(start(tmp_path, tiny()).folder, 2)
    assert start(tmp_path, FREE[what]).resume is not None


NOT_FREE = {
    "images that share statistics": override(
        tiny(batch_size=4), ["distributed.num_procs=2", "distributed.sync_bn_group=1"]
    ),
    "seed": override(tiny(), ["seed=1"]),
    "global batch": override(tiny(), ["data.train.batch_size=4"]),
    "images": tiny(source=PatchesConf(count=25)),
    "another part": override(tiny(), ["schedule=Constant"]),
    "one more transform": override(tiny(), ["+data.train.views.transforms=HorizontalFlip"]),
    "precision": override(tiny(), ["precision=bf16"]),
}


@pytest.mark.parametrize("what", NOT_FREE)
def test_not_free_to_change(what: str, tmp_path: Path) -> None:
    save(start(tmp_path, tiny()).folder, 2)
    with pytest.raises(ConfigError, match="holds a run with another config"):
        start(tmp_path, NOT_FREE[what])


def test_images_that_share_statistics_are_free_where_there_are_none(tmp_path: Path) -> None:
    """Two ranks of 4 images, each by itself, are one of 8 to a network without BatchNorm; in a head it counts."""
    without = config.replaced(tiny(), {"trunk": vit()})
    apart = ["data.train.batch_size=4", "distributed.num_procs=2", "distributed.sync_bn_group=1"]
    save(start(tmp_path, without).folder, 2)
    assert start(tmp_path, override(without, apart)).resume is not None
    with pytest.raises(ConfigError) as caught:
        start(tmp_path, override(without, [*apart, "seed=3"]))
    assert [problem.path for problem in caught.value.problems] == ["resume", "seed"]
    head = config.replaced(without, {"heads.projector": MLPHeadConf(dims=[16, 8], use_bn=True)})
    save(start(tmp_path / "head", head).folder, 2)
    with pytest.raises(ConfigError, match="images that share BatchNorm statistics: was 8, is now 4"):
        start(tmp_path / "head", override(head, apart))


def test_accumulation_is_not_free_to_change(tmp_path: Path) -> None:
    moco = MoCoLossConf(queue_size=24)
    save(start(tmp_path, tiny(loss=moco)).folder, 2)
    with pytest.raises(ConfigError, match="accumulation: was 1, is now 2"):
        start(tmp_path, override(tiny(batch_size=4, loss=moco), ["accumulation=2"]))


def test_a_new_start_has_no_result(tmp_path: Path) -> None:
    """The result of an earlier, interrupted start is not that of this one."""
    folder = start(tmp_path, tiny()).folder
    write_result(folder, "interrupted", {"loss": 1.0}, {"loss": 2.0})
    start(tmp_path, tiny())
    assert not (folder / "result.json").exists()


def checkpoint_of(folder: Path, asked: Experiment, step: int, batch: int) -> Path:
    """A checkpoint of a run of `asked` after `step` steps of `batch` images, 24 an epoch."""
    begun = start(folder, asked)
    store = CheckpointStore(begun.folder / "checkpoints", keep=10)
    store.save(step, {"step": step, "position": Position(step, 24 // batch, batch, 24).to_state()})
    store.wait()
    return begun.folder


def test_past_the_end_is_refused_with_both_numbers(tmp_path: Path) -> None:
    """Nothing would be trained, and the folder would say otherwise."""
    folder = checkpoint_of(tmp_path, tiny(epochs=2), 6, 8)
    before = (folder / "resolved.yaml").read_text()
    with pytest.raises(
        ConfigError, match=r"resume: .*step_00000006 is at step 6, and this run ends at step 3: give more"
    ):
        start(tmp_path, tiny(epochs=1), str(folder))
    assert (folder / "resolved.yaml").read_text() == before


def test_the_same_pass_of_another_batch_is_not_past_the_end(tmp_path: Path) -> None:
    """Six steps of 4 images are one epoch: half of this run, which has six of 8."""
    folder = checkpoint_of(tmp_path, tiny(epochs=1, batch_size=4), 6, 4)
    assert start(tmp_path, tiny(epochs=2), str(folder)).resume is not None
    folder = checkpoint_of(tmp_path / "far", tiny(epochs=3, batch_size=4), 18, 4)
    with pytest.raises(ConfigError, match="at step 18, which is step 9 of 8 images each, and this run ends at step 6"):
        start(tmp_path / "far", tiny(epochs=2), str(folder))


def test_what_changed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint_of(tmp_path, tiny(epochs=2), 3, 8)
    start(tmp_path, override(tiny(epochs=3), ["seed=4"]), str(folder))
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "goes on changed: epochs: was 2, is now 3",
        "goes on changed: seed: was 0, is now 4",
        "goes on changed: steps: was 6, is now 9",
    ]


def test_ranks_that_change_with_their_batch_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint_of(tmp_path, tiny(), 3, 8)
    start(tmp_path, FREE["ranks"])
    assert capsys.readouterr().out.splitlines() == [
        "goes on changed: data.train.batch_size: was 8, is now 4",
        "goes on changed: distributed.num_procs: was 1, is now 2",
    ]


def test_what_is_finished(tmp_path: Path) -> None:
    """Only what came to its end, and only as the run that is asked for."""

    def told(asked: Experiment) -> object:
        resolved = resolve_experiment(asked, "tiny").config
        return finished(tmp_path / "tiny", config.to_yaml(asked), config.to_yaml(resolved))

    assert told(tiny()) is None
    folder = start(tmp_path, tiny()).folder
    save(folder, 2)
    write_result(folder, "interrupted", {"loss": 1.0}, {})
    (folder / "weights.pt").write_bytes(b"")
    assert told(tiny()) is None
    write_result(folder, "finished", {"loss": 1.0}, {})
    assert told(tiny()) == {"loss": 1.0}
    with pytest.raises(ConfigError, match="another config"):
        told(tiny(epochs=3))

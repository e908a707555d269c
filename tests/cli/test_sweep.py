"""The runs of a command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny import TORCHRUN

from ssltyped import config
from ssltyped.cli import sweep as sweeping
from ssltyped.cli.sweep import runs
from ssltyped.config import ConfigError
from ssltyped.experiment import Experiment
from ssltyped.launch import Run, launch
from ssltyped.run import main
from ssltyped.types import Problem, RunStoppedError


def test_one_run_has_the_name_of_its_recipe() -> None:
    ((name, one, changes, _),) = runs("recipes.quickstart", ["seed=3"], multirun=False)
    assert (name, one.name, config.get(one, "seed"), changes) == ("quickstart", None, 3, ["seed=3"])


def test_a_sweep_is_every_combination_in_folders_of_their_own() -> None:
    found = runs("recipes.quickstart", ["loss.temperature=0.1,0.2", "seed=range(3)", "epochs=2"], multirun=True)
    assert [config.get(one, "seed") for _, one, _, _ in found] == [0, 1, 2, 0, 1, 2]
    assert [one.name for _, one, _, _ in found] == [f"quickstart/{number}" for number in range(6)]
    assert found[4][2] == ["loss.temperature=0.2", "seed=1", "epochs=2"]
    assert all(config.get(one, "epochs") == 2 for _, one, _, _ in found)


def test_a_mistake_in_the_last_run_is_found_first() -> None:
    with pytest.raises(ConfigError, match=r"loss\.temperature: got -1"):
        runs("recipes.quickstart", ["loss.temperature=0.1,-1"], multirun=True)


def test_what_is_done_was_the_same_run_also_in_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Callbacks and the product may change in a run that goes on; the numbers of a table are of what was asked."""
    command = (
        "tiny",
        "steps=1",
        "epochs=null",
        "callbacks=[KNN]",
        "--multirun",
        f"output={tmp_path}",
        "callbacks.0.k=1,2",
    )
    evaluated = ["data.val=EvalSplit", "data.val.source=Patches", "data.val.transforms=[CenterCrop]"]
    more = [*evaluated, "data.val.transforms.0.size=16", "data.val.num_workers=0", "callbacks.0.every_epochs=1"]
    assert main([*command, *more]) == 0
    assert main([*command, *more]) == 0
    assert capsys.readouterr().out.count("was done before") == 2
    assert main([*command[:-1], "callbacks.0.k=3,2", *more]) == 0
    assert capsys.readouterr().out.count("was done before") == 1


# --- a member that fails ------------------------------------------------------------------------------------------

TINY = ("tiny", "steps=1", "epochs=null", "callbacks=[]", "--multirun", "seed=range(3)")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def fail_with(monkeypatch: pytest.MonkeyPatch, failure: BaseException, seed: int = 1) -> list[int]:
    """The run with this seed fails; the seeds of the others are noted when they start."""
    started: list[int] = []

    def launched(recipe: Experiment, overrides: Sequence[str] = (), *, name: str = "run", strict: bool = False) -> Run:
        if recipe.seed == seed:
            raise failure
        started.append(recipe.seed)
        return launch(recipe, overrides, name=name)

    monkeypatch.setattr(sweeping, "launch", launched)
    return started


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (RunStoppedError("feature_rank is 1"), "error: this run failed: feature_rank is 1"),
        (ConfigError([Problem("resume", "it is damaged")]), "error: this run is not started:\n  resume: it is damaged"),
    ],
)
def test_the_others_go_on_and_the_same_command_runs_the_rest(
    failure: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TINY, f"output={tmp_path}"]
    with monkeypatch.context() as patched:
        assert fail_with(patched, failure) == []
        assert main(command) == 1
    shown = capsys.readouterr()
    assert told in shown.err
    assert [line.split()[:3] for line in shown.out.splitlines()[-3:]][1] == ["1", "seed=1", "failed"]
    folders = [tmp_path / "tiny" / str(number) for number in range(3)]
    assert [folder.exists() for folder in folders] == [True, False, True]
    before = [(folder / "weights.pt").stat().st_mtime_ns for folder in (folders[0], folders[2])]
    with monkeypatch.context() as patched:
        started = fail_with(patched, RuntimeError(), seed=7)
        assert main(command) == 0
    assert started == [1]
    assert before == [(folder / "weights.pt").stat().st_mtime_ns for folder in (folders[0], folders[2])]
    losses = [json.loads((folder / "result.json").read_text())["metrics"]["loss"] for folder in folders]
    rows = capsys.readouterr().out.splitlines()[-3:]
    assert [row.split()[2] for row in rows] == [f"{loss:.4g}" for loss in losses]


def test_an_interrupted_sweep_shows_what_is_done_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    assert main([*TINY, f"output={tmp_path}"]) == 130
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("0 ")
    assert "seed=0" in last
    assert not (tmp_path / "tiny" / "2").exists()


def test_another_sweep_in_the_same_folder_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its numbers would name other runs, and what they have finished is not what is asked for now."""
    assert main([*TINY, f"output={tmp_path}"]) == 0
    capsys.readouterr()
    assert main([*TINY[:-1], "seed=5,1", f"output={tmp_path}"]) == 2
    assert "seed: was 0, is now 5" in capsys.readouterr().err


def test_never_starts_all_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert main([*TINY[:-1], "seed=0,1", f"output={tmp_path}", "resume=never"]) == 0
    assert {folder.name for folder in (tmp_path / "tiny").iterdir()} == {"0", "1", "0-2", "1-2"}


def test_under_torchrun_a_failure_ends_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One rank cannot go on to the next run while others are still in this one."""
    for name, value in zip(TORCHRUN, ("0", "1", "0", "1"), strict=True):
        monkeypatch.setenv(name, value)
    started = fail_with(monkeypatch, RuntimeError("out of memory"))
    assert main([*TINY, f"output={tmp_path}"]) == 1
    assert started == [0]


@pytest.mark.parametrize("flag", ["--plan", "--print"])
def test_each_run_of_a_sweep_can_be_looked_at(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY[:-1], "loss.temperature=0.1,0.3", f"output={tmp_path}", flag]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    first, second = shown.out.split("run 1: ")
    assert first.startswith("run 0: steps=1")
    assert "loss.temperature=0.1" in first
    assert second.partition("\n")[0].endswith(f"loss.temperature=0.3 output={tmp_path}")
    assert (f"{tmp_path}/tiny/1" in second) == (flag == "--plan")
    assert list(tmp_path.iterdir()) == []

"""A task is asked for, planned, run, gone on with and swept as a training is; its folder is never another's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_tasks import CountConf
from tiny import TORCHRUN, tiny

from ssltyped import ConfigError, TaskRun, config, launch
from ssltyped.cli.recipe import load_recipe, load_root
from ssltyped.engine.lock import locked
from ssltyped.run import main
from ssltyped.tasks.running import done_before, is_task, resolve_task


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def starts(folder: Path) -> int:
    return len((folder / "starts.txt").read_text().splitlines())


def test_launch_writes_what_was_asked_for_and_how_it_ended(tmp_path: Path) -> None:
    run = launch(CountConf(output=tmp_path), ["n=5"], name="five")
    assert isinstance(run, TaskRun)
    assert run == TaskRun(tmp_path / "five", {"count": 5.0, "ranks": 1.0})
    asked = config.from_yaml((run.folder / "asked.yaml").read_text())
    resolved = config.from_yaml((run.folder / "resolved.yaml").read_text())
    assert (asked.n, asked.double, resolved.double, resolved.name) == (5, None, 10, "five")
    assert json.loads((run.folder / "inferences.json").read_text())[0]["field"] == "double"
    assert json.loads((run.folder / "result.json").read_text())["metrics"] == run.metrics
    assert not (run.folder / "lock").exists()


def test_the_same_task_goes_on_in_its_folder_and_another_gets_its_own(tmp_path: Path) -> None:
    first = launch(CountConf(output=tmp_path), name="count")
    again = launch(CountConf(output=tmp_path), name="count")
    other = launch(CountConf(output=tmp_path, n=4), name="count")
    assert [run.folder.name for run in (first, again, other)] == ["count", "count", "count-2"]
    assert launch(CountConf(output=tmp_path, n=4), name="count").folder == other.folder
    assert (starts(first.folder), starts(other.folder)) == (2, 2)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").touch()
    assert launch(CountConf(output=tmp_path), name="foreign").folder.name == "foreign-2", "nothing is written to it"
    assert [file.name for file in (tmp_path / "foreign").iterdir()] == ["file"]


@pytest.mark.usefixtures("forked_ranks")
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """In the folder that one has begun: where it runs is no part of what it is."""
    alone = launch(CountConf(output=tmp_path, n=5), name="count")
    both = launch(CountConf(output=tmp_path, n=5), ["distributed.num_procs=2"], name="count")
    assert both == TaskRun(alone.folder, {"count": 5.0, "ranks": 2.0})
    assert starts(alone.folder) == 2


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path) -> None:
    for change, message in [
        ("n=13", "n: got 13: no luck"),
        ("double=7", "double: got 7, but 6 follows from the rest: twice n"),
        ("doubl=3", "doubl: Count has no such field; did you mean 'double'?"),
        ("name=a/../b", "name: "),
        ("distributed.num_procs=999", "distributed: the recipe wants 1 nodes x 999 processes"),
    ]:
        with pytest.raises(ConfigError) as caught:
            launch(CountConf(output=tmp_path), [change])
        assert message in str(caught.value)
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "count"), pytest.raises(ConfigError, match="is in use by process"):
        launch(CountConf(output=tmp_path), name="count")


def test_what_was_done_before(tmp_path: Path) -> None:
    asked = CountConf(output=tmp_path, n=7)
    assert done_before(asked, "seven") is None
    with pytest.raises(RuntimeError, match="seven"):
        launch(asked, name="seven")
    assert done_before(asked, "seven") is None, "it failed"
    launch(CountConf(output=tmp_path, n=8), name="eight")
    assert done_before(CountConf(output=tmp_path, n=8), "eight") == {"count": 8.0, "ranks": 1.0}
    assert done_before(CountConf(output=tmp_path, n=9), "eight") is None


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"output={tmp_path}"
    assert main(["own_tasks", output, "n=101"]) == 0
    out = capsys.readouterr().out
    assert "warning: n: 101 takes long" in out
    assert f"done: {tmp_path}/own_tasks  count 101  ranks 1" in out
    assert main(["own_tasks", output, "n=102", "--plan"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("counts to 102\n\ninferred\n  double")
    assert "may be unwise\n  n: 102 takes long" in out
    assert f"written to {tmp_path}/own_tasks-2" in out
    assert not (tmp_path / "own_tasks-2").exists()
    assert main(["own_tasks", "--help"]) == 0
    assert "n=3" in capsys.readouterr().out
    assert main(["own_tasks", "n=4", "--print"]) == 0
    assert "n: 4" in capsys.readouterr().out
    assert main(["own_tasks", output, "n=0"]) == 2
    assert "n: got 0" in capsys.readouterr().err
    assert main(["own_tasks", output, "n=7"]) == 1
    assert "RuntimeError: seven" in capsys.readouterr().err


def test_a_sweep_runs_what_is_not_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["own_tasks", f"output={tmp_path}", "--multirun", "n=1,2,7"]
    assert main(command) == 1, "one of them fails"
    assert "failed" in capsys.readouterr().out
    assert main(command) == 1
    out = capsys.readouterr().out
    assert out.count("was done before") == 2
    assert [starts(tmp_path / "own_tasks" / str(number)) for number in range(3)] == [1, 1, 2]
    assert main([*command[:-1], "n=1,13"]) == 2, "before the first one starts"


def test_trainings_and_tasks_are_told_apart() -> None:
    assert is_task(load_root("own_tasks"))
    assert not is_task(tiny())
    with pytest.raises(ConfigError, match="own_tasks: is no training but the task Count"):
        load_recipe("own_tasks")
    assert resolve_task(CountConf()).config.name == "run"

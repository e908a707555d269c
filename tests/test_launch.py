"""Launching: what a run gives and writes, what is refused before anything is written, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import TORCHRUN, Patches, PatchesConf, Vanishing, environment, sha256, start_cli, tiny

import recipes.quickstart as quickstart_module
from recipes.simclr_1gpu import recipe as one_gpu
from recipes.simclr_8node import recipe as eight_nodes
from ssltyped import config, launch
from ssltyped.config import ConfigError, config_for
from ssltyped.config.overrides import override
from ssltyped.engine.callbacks.metrics_file import MetricsFileConf
from ssltyped.engine.parallel import Place
from ssltyped.engine.ranks import RankError
from ssltyped.engine.trainer import Outcome
from ssltyped.evals.online_knn import KNNConf
from ssltyped.experiment import Experiment
from ssltyped.launch import Run, misfit
from ssltyped.resolution import resolve_experiment
from ssltyped.run import main
from ssltyped.types import Callback, TrainState


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- one process --------------------------------------------------------------------------------------------


def test_what_a_run_gives(tmp_path: Path) -> None:
    run = launch(tiny(output=tmp_path, steps=4))
    assert run.outcome is Outcome.FINISHED
    assert run.folder == tmp_path / "tiny"
    assert {"loss", "lr", "images_per_s"} <= set(run.metrics)
    assert files(run.folder) == {
        "asked.yaml", "resolved.yaml", "inferences.json", "checkpoints", "weights.pt", "result.json"
    }  # fmt: skip
    weights = torch.load(run.folder / "weights.pt", weights_only=True)
    state = run.model.state_dict()
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], state[name]) for name in state)
    result = json.loads((run.folder / "result.json").read_text())
    assert result == {"outcome": "finished", "metrics": run.metrics, "first": run.first}


def test_overrides(tmp_path: Path) -> None:
    run = launch(tiny(output=tmp_path), ["epochs=1", "loss.temperature=0.5"])
    assert json.loads((run.folder / "inferences.json").read_text())
    assert "temperature: 0.5" in (run.folder / "asked.yaml").read_text()
    assert "epochs: 1" in (run.folder / "asked.yaml").read_text()


@pytest.mark.parametrize(
    ("own", "overrides", "folder"), [(None, [], "given"), ("own", [], "own"), ("own", ["name=a/b"], "a/b")]
)
def test_name(own: str | None, overrides: list[str], folder: str, tmp_path: Path) -> None:
    asked = config.replaced(tiny(output=tmp_path, steps=1), {"name": own})
    assert launch(asked, overrides, name="given").folder == tmp_path / folder


def test_what_is_written_down(tmp_path: Path) -> None:
    """What was asked with its gaps, what it became, and why; a run of what it became is the same run."""
    asked = tiny(output=tmp_path, steps=3)
    folder = launch(asked).folder
    assert config.to_yaml(config.from_yaml((folder / "asked.yaml").read_text())) == config.to_yaml(config.check(asked))
    rows = {row["field"]: row for row in json.loads((folder / "inferences.json").read_text())}
    assert rows["global_batch_size"] == {
        "field": "global_batch_size", "from": None, "to": 8, "rule": "8 images a rank x 1 rank"
    }  # fmt: skip
    resolved: Experiment = config.from_yaml((folder / "resolved.yaml").read_text())
    for path, row in rows.items():
        assert config.get(config.from_yaml((folder / "asked.yaml").read_text()), path) is None
        assert config.get(resolved, path) == row["to"]
    again = launch(resolved, [f"output={tmp_path / 'again'}"]).folder
    assert json.loads((again / "inferences.json").read_text()) == []
    assert sha256(again / "weights.pt") == sha256(folder / "weights.pt")


def test_started_again_it_is_the_same_run(tmp_path: Path) -> None:
    first = launch(tiny(output=tmp_path, callbacks=[MetricsFileConf()]))
    before = (first.folder / "metrics.jsonl").read_text()
    digest = sha256(first.folder / "weights.pt")
    again = launch(tiny(output=tmp_path, callbacks=[MetricsFileConf()]))
    assert again.folder == first.folder
    assert again.metrics == first.metrics
    assert (first.folder / "metrics.jsonl").read_text() == before, "nothing is trained again"
    assert sha256(first.folder / "weights.pt") == digest
    new = launch(tiny(output=tmp_path), ["resume=never"])
    assert new.folder.name == "tiny-2"


def test_going_on_changed(tmp_path: Path) -> None:
    """From a path another config goes on, in a folder of its own, where the old one stood."""
    first = launch(tiny(output=tmp_path, epochs=1))
    with pytest.raises(ConfigError, match="holds a run with another config"):
        launch(tiny(output=tmp_path, epochs=2))
    run = launch(
        tiny(output=tmp_path, epochs=2, callbacks=[MetricsFileConf()]), [f"resume={first.folder}", "name=more"]
    )
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 5, 6]


# --- refused ------------------------------------------------------------------------------------------------


def refused(asked: Experiment, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        launch(asked, overrides)
    return str(caught.value)


def test_nothing_is_written_by_a_run_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = tiny(output=tmp_path / "runs")
    refused(asked, "data.train.batch_size=25")
    refused(asked, "distributed.num_procs=500", "data.train.source.count=9999")
    refused(one_gpu, "distributed.device=cpu")
    assert not list(tmp_path.iterdir())


def test_data_that_is_not_here_can_be_planned_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes.simclr_1gpu", "--plan", "data.train.batch_size=8", "distributed.device=cpu"]) == 0
    assert "steps" in capsys.readouterr().out
    assert main(["recipes.simclr_1gpu", "distributed.device=cpu"]) == 2
    assert "data.train.path: imagenet/train does not exist" in capsys.readouterr().err


def test_eight_nodes_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ways on: the command for torchrun, and the overrides that make it fit with what they change."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    text = refused(eight_nodes)
    assert "the recipe wants 8 nodes x 8 processes; here is 1 node with 4 GPUs" in text
    assert "torchrun --nnodes=8 --nproc-per-node=8" in text
    assert "distributed.nodes=1 distributed.num_procs=4, which changes" in text
    changes = text.partition("which changes ")[2].replace(",", "")
    want = "global_batch_size 4096 -> 256 steps 31200 -> 500400 optimizer.rate.lr 4.8 -> 0.3"
    assert changes.split() == want.split(), changes


def test_what_fits_does_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The overrides that the error suggests are taken."""
    fitting = override(eight_nodes, ["distributed.nodes=1", "distributed.num_procs=4"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert misfit(resolve_experiment(fitting), None) == []


def test_a_gpu_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert refused(tiny(), "distributed.device=cuda") == (
        "distributed.device: got cuda, and there is no GPU here: distributed.device=cpu goes without"
    )


def test_torchrun_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(TORCHRUN, ("0", "1", "0", "1"), strict=True):
        monkeypatch.setenv(name, value)
    assert launch(tiny(output=tmp_path, steps=1)).outcome is Outcome.FINISHED


def test_torchrun_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(TORCHRUN, ("5", "8", "1", "4"), strict=True):
        monkeypatch.setenv(name, value)
    text = refused(tiny(output=tmp_path), "distributed.num_procs=2")
    assert text == (
        "distributed: torchrun started 8 processes, 4 on this node; the recipe wants 1 nodes x 2: "
        "set distributed.nodes=2 distributed.num_procs=4"
    )
    assert not list(tmp_path.iterdir())
    fits = override(tiny(batch_size=2), ["distributed.nodes=2", "distributed.num_procs=4"])
    assert misfit(resolve_experiment(fits), Place.from_environment()) == []


# --- several processes --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("forked_ranks")
def test_two_processes(tmp_path: Path) -> None:
    """Started from here: the model that comes back is the one that was trained; started again it goes on."""
    asked = tiny(
        output=tmp_path, steps=2, batch_size=4, source=PatchesConf(broken=[2]), evaluated=True,
        callbacks=[MetricsFileConf(), KNNConf(k=3)],
    )  # fmt: skip
    run = launch(asked, ["distributed.num_procs=2"])
    assert run.outcome is Outcome.FINISHED
    assert isinstance(run, Run)
    weights = torch.load(run.folder / "weights.pt", weights_only=True)
    state = run.model.state_dict()
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], state[name]) for name in state)
    assert run.metrics["knn_top1"] > 25
    assert {"step_00000002"} == files(run.folder / "checkpoints")
    assert files(run.folder / "checkpoints" / "step_00000002") == {"state.pt", "rank_1.pt", "checksums.json"}
    assert [json.loads(line)["step"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()] == [1, 2, 2]


@pytest.mark.usefixtures("forked_ranks")
def test_interrupted_on_two_ranks(tmp_path: Path) -> None:
    """Ctrl-C at the terminal reaches every process of the group at once: 130, all saved, the same command goes on."""
    command = [
        "tiny", "steps=12", "epochs=null", "data.train.batch_size=4", "distributed.num_procs=2",
        "callbacks=[ProgressBar,MetricsFile]", f"output={tmp_path}",
    ]  # fmt: skip
    process = start_cli(*command)
    assert process.stdout is not None
    for line in process.stdout:
        if "step 3/12" in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert main(command) == 0
    rows = (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(1, 13))


class Stranger(Patches):
    """As if it were defined in a script."""

    def __init__(self, *, count: int = 24) -> None:
        super().__init__(count=count)


Stranger.__module__ = "__main__"
StrangerConf = config_for(Stranger)


@pytest.mark.parametrize("several", ["distributed.num_procs=2", "data.train.num_workers=1"])
def test_parts_that_other_processes_cannot_import(several: str, tmp_path: Path) -> None:
    text = refused(tiny(output=tmp_path, source=StrangerConf(), batch_size=4), several)
    assert text == (
        "data.train.source: is defined in __main__, which other processes cannot import: move it to a module"
    )
    assert not list(tmp_path.iterdir())


class StrangeCallback(Callback):
    """As if it were defined in a script."""


StrangeCallback.__module__ = "__main__"
StrangeCallbackConf = config_for(StrangeCallback)


def test_workers_need_the_parts_that_read_data_alone(tmp_path: Path) -> None:
    asked = tiny(output=tmp_path, steps=1, callbacks=[StrangeCallbackConf()])
    assert "callbacks.0: is defined in __main__" in refused(asked, "distributed.num_procs=2", "data.train.batch_size=4")
    assert launch(asked, ["data.train.num_workers=1"]).outcome is Outcome.FINISHED


SCRIPT = """
from tiny import tiny
from ssltyped import launch
run = launch(tiny(steps=2, batch_size=4), ["data.train.num_workers=1", "distributed.num_procs=2"])
print(run.outcome, sorted(run.metrics))
"""


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """Neither ranks nor their workers run it again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Outcome.FINISHED") == 1


@pytest.mark.usefixtures("forked_ranks")
def test_a_mistake_that_a_rank_finds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A checkpoint of another model: the command tells it, and ends as for every mistake."""
    first = launch(tiny(output=tmp_path, steps=1))
    arguments = [
        "tiny", "steps=2", "epochs=null", "data.train.batch_size=4", "distributed.num_procs=2", "name=more",
        "heads.projector.dims=[16,9]", f"resume={first.folder}", f"output={tmp_path}",
    ]  # fmt: skip
    assert main(arguments) == 2
    err = capfd.readouterr().err
    assert "is not started:\n  resume: the checkpoint is of another model or optimizer: " in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("forked_ranks")
def test_a_rank_that_fails(tmp_path: Path) -> None:
    """The error of the rank is shown; nothing looks like an end."""
    asked = tiny(output=tmp_path, batch_size=4, source=PatchesConf(broken=list(range(1, 24))))
    with pytest.raises(Exception, match="no image for place"):
        launch(asked, ["distributed.num_procs=2"])
    assert not (tmp_path / "tiny" / "result.json").exists()
    assert not (tmp_path / "tiny" / "weights.pt").exists()


# --- what is no recipe, and what leaves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (quickstart_module, "got the module recipes.quickstart: give the recipe in it, recipes.quickstart.recipe"),
        (quickstart_module.quickstart, "got the function quickstart: give what it makes, quickstart()"),
        ("recipes.quickstart", "got 'recipes.quickstart': give the recipe itself"),
        (None, "want ExperimentConf(...)"),
        (PatchesConf(), "got the PatchesConf: want ExperimentConf(...)"),
    ],
)
def test_what_is_no_recipe(given: Experiment, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        launch(given)
    (problem,) = caught.value.problems
    assert problem.path == "recipe"
    assert told in problem.message


@pytest.mark.parametrize("given", ["epochs=1", {"epochs": 1}, 3, None])
def test_overrides_that_are_no_list(given: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^overrides: got .*: want a list of texts, such as \['epochs=1'\]$"):
        launch(tiny(), overrides=given)


class Leaves(Callback):
    """A part that calls sys.exit on one rank, which says that all went well.

    Args:
        rank: which.
    """

    every_rank = True

    def __init__(self, *, rank: int = 0) -> None:
        self.rank = rank

    def on_step_end(self, state: TrainState) -> None:
        if os.environ.get("RANK", "0") == str(self.rank):
            sys.exit(0)


LeavesConf = config_for(Leaves)


@pytest.mark.usefixtures("forked_ranks")
def test_a_part_that_leaves_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny", "+callbacks=test_launch:Leaves", f"output={tmp_path}"]) == 1
    assert "SystemExit" in capsys.readouterr().err
    with pytest.raises(RankError, match=r"rank 1 failed:[^$]*sys\.exit\(0\)"):
        launch(
            tiny(output=tmp_path, batch_size=4, callbacks=[LeavesConf(rank=1)]), overrides=["distributed.num_procs=2"]
        )


def test_data_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also what a rank has found; and DDP's advice about unused parameters is not printed."""

    def run_here(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(Vanishing, "read_one", False)
        return main(arguments), *capfd.readouterr()

    overrides = ["+callbacks=KNN", "callbacks.1.k=3", "callbacks.1.every_epochs=1", "data.val=EvalSplit"]
    overrides += ["data.val.source=tiny:Vanishing", "data.val.source.count=4", "data.val.num_workers=0"]
    overrides += ["data.val.transforms=[CenterCrop]", "data.val.transforms.0.size=16", "data.train.batch_size=4"]
    for ranks in (1, 2):
        code, _, err = run_here("tiny", *overrides, f"distributed.num_procs={ranks}", f"output={tmp_path / str(ranks)}")
        assert code == 1
        assert err.splitlines() == [
            "error: tiny failed: none of the images of data.val can be read: see unreadable_rank*.jsonl of the run"
        ]
    broken = ["data.val.source=tiny:Patches", "data.val.source.broken=[0,1,2,3]", f"output={tmp_path / 'broken'}"]
    code, _, err = run_here("tiny", *overrides, *broken)
    assert code == 2, "what is so before the run is told before it"
    assert "data.val: none of 4 images that were tried can be read: patches/0.png: cut short" in err
    assert not (tmp_path / "broken").exists()

"""The command line as a user meets it: what it prints, where, how it exits, and what it does not import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ssltyped import config
from ssltyped.cli.recipe import load_root, shipped
from ssltyped.config import catalog
from ssltyped.experiment import Experiment
from ssltyped.launch import Run
from ssltyped.run import main

HEAVY = ("torchvision", "sklearn", "tensorboard", "torchmetrics")
ROOT = Path(__file__).parents[1]

TINY = (
    "recipes.quickstart",
    "trunk.width_multiplier=0.03125",
    "data.train.batch_size=8",
    "data.train.num_workers=0",
    "data.val=null",
    "epochs=null",
    "steps=1",
    "callbacks=[MetricsFile]",
)
"""One step of the quickstart on 8 digits."""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# --- what it prints -----------------------------------------------------------------------------------------------


def test_without_a_recipe_it_says_how_and_which(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (2, "")
    assert "RECIPE" in out
    assert all(name in out for name in shipped())
    assert run(capsys, "--help")[0] == 0


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--list")
    assert code == 0
    for name, module in catalog.components().items():
        assert f"  {name}(" in out
        assert f"\n      {module}:{name}\n" in out


@pytest.mark.parametrize("name", shipped())
def test_help_of_a_recipe_has_every_field(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    shown = {line.split()[0].partition("=")[0] for line in out.splitlines() if line.startswith("  ") and line.split()}
    for path, part in config.walk(load_root(name)):
        for field in config.part_of(part).parameters:
            assert config.join(path, field) in shown


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss.temperature=0.2"],
        ["heads.projector.dims=[2048,256]"],
        ["data.train.batch_size=32"],
        ["optimizer=AdamW", "optimizer.rate.lr=1e-3"],
    ],
)
def test_print_shows_what_was_overridden(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, before, _ = run(capsys, "recipes.simclr_8node", "--print")
    assert code == 0
    code, after, err = run(capsys, "recipes.simclr_8node", *overrides, "--print")
    assert (code, err) == (0, "")
    assert before != after
    for text in overrides:
        path, _, value = text.partition("=")
        assert f"{path.split('.')[-1]}: {value.replace(',', ', ').replace('1e-3', '0.001')}\n" in after


def test_options_may_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {run(capsys, *order)[1] for order in (
        ("recipes.simclr_8node", "seed=3", "--print"),
        ("--print", "recipes.simclr_8node", "seed=3"),
        ("recipes.simclr_8node", "--print", "seed=3"),
    )}  # fmt: skip
    assert len(texts) == 1


def test_the_plan_says_parts_inferences_length_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "recipes.simclr_8node", "--plan")
    assert (code, err) == (0, "")
    for text in ("4,096 images a step", "31,200 steps", "optimizer.rate.lr", "4.8", "runs/simclr_8node", "MiB"):
        assert text in out


def test_a_recipe_of_eight_nodes_is_refused_with_the_two_ways_on(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "recipes.simclr_8node")
    assert (code, out) == (2, "")
    assert err.startswith("error: recipes.simclr_8node is not started:\n  distributed: the recipe wants 8 nodes x 8")
    assert "torchrun --nnodes=8 --nproc-per-node=8" in err
    assert "distributed.nodes=1 distributed.num_procs=" in err
    assert "optimizer.rate.lr 4.8 -> " in err


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            ["recipes.simclr_8nod"],
            ["recipes.simclr_8nod: there is no such recipe; did you mean 'recipes.simclr_8node'?"],
        ),
        (["recipes.quickstart", "los.temperature=1"], ["los: Experiment has no such field; did you mean 'loss'?"]),
        (
            ["recipes.quickstart", "loss.temperature=-1", "epochs=1.5"],
            [
                "loss.temperature: got -1: input should be greater than 0",
                "epochs: got 1.5: input should be a valid integer",
            ],
        ),
        (["recipes.quickstart", "seed=1,2"], ["seed: 'seed=1,2' is a sweep: add --multirun, or [..] for a list"]),
        (
            ["recipes.simclr_folder"],
            ["data.train.path: required: Path | null; set it with data.train.path=VALUE"],
        ),
    ],
)
@pytest.mark.parametrize("mode", ["", "--print", "--plan"])
def test_a_mistake_is_told_and_exits_with_2(
    arguments: list[str], lines: list[str], mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments, *filter(None, [mode]))
    assert (code, out) == (2, "")
    first, *others = err.splitlines()
    assert first == f"error: {arguments[0]} is not started:"
    assert sorted(line.strip() for line in others) == sorted(lines)


@pytest.mark.parametrize("mode", ["", "--plan"])
@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["freeze=[Freeze]", "freeze.0.parts=[trunk,heads]"], "freeze: nothing is left that learns"),
        (["optimizer.decay.exclude=[foo]"], "optimizer: decay.exclude: no parameter has 'foo' in its name"),
        (
            ["optimizer=TorchOptimizer", "optimizer.name=Muon", "optimizer.rate.lr=3e-3"],
            "optimizer.name: torch.optim has",
        ),
        (["loss=TorchLoss", "loss.name=CTCLoss"], "loss.name: torch.nn has no loss 'CTCLoss' of an output and a label"),
    ],
)
def test_a_mistake_that_only_the_built_parts_show_exits_with_2(
    overrides: list[str], told: str, mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *TINY, f"output={tmp_path}", *overrides, *filter(None, [mode]))
    assert code == 2, err
    assert err.startswith(f"error: recipes.quickstart is not started:\n  {told}")
    assert "Traceback" not in err


def test_an_unknown_option_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["recipes.quickstart", "--pan"])
    assert leaving.value.code == 2
    assert "--pan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe = (\n", "SyntaxError: '(' was never closed"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("x = 1\n", "has no 'recipe'"),
        ("recipe = 3\n", "is no recipe but int"),
    ],
)
def test_a_broken_recipe_exits_with_2_and_one_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"broken_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, err = run(capsys, name)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 2
    assert message in err


def test_nothing_is_written_before_a_mistake_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in (
        ["loss.temperature=-1"],
        ["optimizer.rate.lr=1", "optimizer.rate.base_lr=3"],
        ["data.train.batch_size=5000"],
    ):
        assert run(capsys, "recipes.quickstart", *wrong)[0] == 2
    assert list(tmp_path.iterdir()) == []


# --- runs ---------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_0_and_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *TINY, f"output={tmp_path}", "loss.temperature=0.3")
    assert code == 0, err
    assert f"done: {tmp_path / 'quickstart'}" in out
    folder = tmp_path / "quickstart"
    assert {"asked.yaml", "resolved.yaml", "inferences.json", "weights.pt", "result.json"} <= {
        file.name for file in folder.iterdir()
    }
    assert json.loads((folder / "result.json").read_text())["outcome"] == "finished"
    asked: Experiment = config.from_yaml((folder / "asked.yaml").read_text())
    assert config.get(asked, "loss.temperature") == 0.3
    assert config.get(asked, "global_batch_size") is None
    resolved = (folder / "resolved.yaml").read_text()
    code, shown, _ = run(capsys, str(folder / "resolved.yaml"), "--print")
    assert code == 0
    assert config.to_yaml(config.from_yaml(resolved)) == resolved
    assert "global_batch_size: 8\n" in shown


def test_multirun_runs_every_combination_and_ends_with_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ("--multirun", "loss.temperature=0.1,0.2", "seed=range(3)")
    code, out, err = run(capsys, *TINY, f"output={tmp_path}", *sweep)
    assert code == 0, err
    folders = sorted((tmp_path / "quickstart").iterdir())
    assert [folder.name for folder in folders] == ["0", "1", "2", "3", "4", "5"]
    asked = [config.from_yaml((folder / "asked.yaml").read_text()) for folder in folders]
    assert [(config.get(one, "loss.temperature"), one.seed) for one in asked] == [
        (temperature, seed) for temperature in (0.1, 0.2) for seed in (0, 1, 2)
    ]
    header, *rows = out.splitlines()[-7:]
    assert header.split()[:3] == ["run", "overrides", "loss"]
    assert [row.split()[:3] for row in rows] == [
        [str(number), f"loss.temperature={one.loss.temperature}", f"seed={one.seed}"]
        for number, one in enumerate(asked)
    ]
    losses = [json.loads((folder / "result.json").read_text())["metrics"]["loss"] for folder in folders]
    assert [float(row.split()[3]) for row in rows] == [float(f"{loss:.4g}") for loss in losses]
    assert len(set(losses)) == 6


def test_a_mistake_in_the_last_run_of_a_sweep_is_told_before_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *TINY, f"output={tmp_path}", "--multirun", "loss.temperature=0.1,-1")
    assert code == 2
    assert "got -1" in err
    assert list(tmp_path.iterdir()) == []


def test_a_loss_of_ones_own_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "package_of_a_loss").mkdir()
    (tmp_path / "package_of_a_loss" / "losses.py").write_text(
        "from ssltyped.config import INFERRED, config_for\n"
        "from ssltyped.types import Batch, Loss, Model, Moment, StepOutput\n\n\n"
        "class MyLoss(Loss):\n"
        "    def __init__(self, *, weight: float = 2.0, head: str = INFERRED) -> None:\n"
        "        super().__init__()\n"
        "        self.weight, self.head = weight, head\n\n"
        "    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:\n"
        "        return StepOutput(loss=model(batch.views).of(self.head).square().mean() * self.weight)\n\n\n"
        "MyLossConf = config_for(MyLoss)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code, _, err = run(capsys, *TINY, "loss=package_of_a_loss.losses:MyLoss", "loss.weight=3", "output=out")
    assert code == 0, err
    saved = (tmp_path / "out" / "quickstart" / "resolved.yaml").read_text()
    assert "_target_: package_of_a_loss.losses.MyLoss" in saved
    assert "weight: 3.0" in saved


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [(RuntimeError("out of memory"), 1, "RuntimeError: out of memory"), (KeyboardInterrupt(), 130, "")],
)
def test_a_failed_run_exits_with_1_and_an_interrupted_one_with_130(
    raised: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(recipe: Experiment, overrides: Sequence[str] = (), *, name: str = "run", strict: bool = False) -> Run:
        raise raised

    monkeypatch.setattr("ssltyped.run.launch", fail)
    found, _, err = run(capsys, "recipes.quickstart")
    assert found == code
    assert told in err
    assert ("Traceback" in err) == (code == 1)


def test_a_run_that_is_interrupted_saves_and_exits_with_130(tmp_path: Path) -> None:
    arguments = [text for text in TINY if not text.startswith("steps=")]
    command = [sys.executable, "-m", "ssltyped.run", *arguments, "steps=100000", "log_every=1", f"output={tmp_path}"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "quickstart" / "metrics.jsonl"
    until = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted, and saved in" in out
    assert "Traceback" not in err
    assert any((tmp_path / "quickstart" / "checkpoints").glob("step_*"))


# --- processes of their own -----------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """For a process that runs the checkout on one thread, whatever folder it is started in."""
    paths = [str(ROOT / "src"), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def started(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ssltyped.run", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=120
    )


def test_what_does_not_train_does_not_import_what_training_needs(tmp_path: Path) -> None:
    """One after the other in one process: what the first imports is there for all."""
    script = (
        "import sys; from ssltyped.run import main\n"
        "for command in sys.argv[1:]:\n"
        "    code = main(command.split())\n"
        f"    print('imported', *[name for name in {HEAVY} if name in sys.modules], code, file=sys.stderr)"
    )
    mistake, *right = "recipes.quickstart los=1", "recipes.quickstart --print", "recipes.quickstart --help"
    commands = [mistake, *right, "recipes.simclr_8node --plan", "--list"]
    done = subprocess.run(
        [sys.executable, "-c", script, *commands], cwd=tmp_path, env=environment(), capture_output=True, text=True,
        check=True, timeout=120,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if line.startswith("imported")]
    assert told[:4] == ["imported 2", "imported 0", "imported 0", "imported 0"]
    assert told[4:] in (["imported 0"], ["imported torchvision 0"]), "some components adapt it"
    assert list(tmp_path.iterdir()) == []


def test_the_command_itself(tmp_path: Path) -> None:
    done = started("recipes.quickstart", "loss.temperature=0.25", "--print", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "temperature: 0.25" in done.stdout
    done = started("recipes.quickstart", "loss.temprature=0.25", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'temperature'?" in done.stderr


@pytest.mark.parametrize("delay", [0.2, 1.0, 2.0])
def test_ctrl_c_that_is_held_ends_it_in_silence_wherever_it_is(delay: float, tmp_path: Path) -> None:
    arguments = [text for text in TINY if not text.startswith("steps=")]
    command = [sys.executable, "-m", "ssltyped.run", *arguments, "steps=100000", f"output={tmp_path}"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


def test_nobody_reads_what_is_printed(tmp_path: Path) -> None:
    """Several commands in one process, each of which meets a closed pipe, and so does the end of the process."""
    script = (
        "import os, sys; from ssltyped.run import main\n"
        "closed, codes = os.dup(1), []\n"
        "for command in sys.argv[1:]:\n"
        "    os.dup2(closed, 1)\n"
        "    codes.append(main(command.split()))\n"
        "sys.exit(codes != [0, 2, 0, 0])"
    )
    commands = ["--list", "", "recipes.quickstart --help", "recipes.quickstart --plan"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", script, *commands], cwd=tmp_path, env=environment(), stdout=write,
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_that_nobody_watches_goes_on(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "ssltyped.run", *TINY, "callbacks=[ProgressBar]", f"output={tmp_path}"]
    done = subprocess.run(command, env=environment(), stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "quickstart" / "weights.pt").exists()

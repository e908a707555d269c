"""What README.md shows runs, what it quotes is what is said, and the files that it names are there."""

from __future__ import annotations

import math
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from readme import README, blocks
from tiny import TORCHRUN
from torchvision.models import resnet18, resnet50

import ssltyped
from ssltyped import Experiment, Outcome, config
from ssltyped.cli.plan import plan
from ssltyped.cli.recipe import load_recipe, load_root
from ssltyped.cli.sweep import runs
from ssltyped.config.overrides import override
from ssltyped.run import main
from ssltyped.weights.__main__ import main as weights_main
from tools.check_layers import LAYERS

ROOT = Path(__file__).parents[1]
QUICKSTART = "recipes.quickstart"


def commands(start: str) -> list[list[str]]:
    """What follows `start` in a command of a block or of the text; a line that ends in a backslash goes on."""
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL).replace("\n", " ")
    typed = [line.removeprefix("$ ") for line in "".join(blocks("console")).splitlines() if line.startswith("$ ")]
    lines = [*typed, *"".join(blocks("sh")).replace("\\\n", " ").splitlines(), *re.findall(r"`([^`]+)`", prose)]
    return [shlex.split(line.partition(start)[2], comments=True) for line in lines if start in line]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def my_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The loss that it shows, where its commands look for it."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "losses.py").write_text(next(one for one in blocks("python") if "MyLoss" in one))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_package", "my_package.losses"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_its_python_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All blocks in their order, as one module; what would train is planned."""
    planned = []

    def launched(recipe: Experiment, overrides: Sequence[str], name: str = "readme") -> SimpleNamespace:
        planned.append(plan(override(recipe, overrides), name))
        return SimpleNamespace(metrics={}, folder=tmp_path, model=None, outcome=Outcome.FINISHED)

    monkeypatch.setattr(ssltyped, "launch", launched)
    (tmp_path / "runs" / "simclr_folder").mkdir(parents=True)
    torch.save({f"trunk.{name}": w for name, w in resnet18().state_dict().items() if "fc." not in name},
               tmp_path / "runs" / "simclr_folder" / "weights.pt")  # fmt: skip
    (tmp_path / "readme.py").write_text("\n\n".join(blocks("python")))
    names = runpy.run_path(str(tmp_path / "readme.py"), run_name="readme")
    assert len(planned) == 3
    assert "written to runs/warm/0.2" in planned[-1]
    assert float(names["output"].loss) < math.log(2 * 100 - 1) + 5, "its own loop has trained"
    recipes = [value for value in names.values() if config.is_config(value)]
    assert len(recipes) > 3
    for value in recipes:
        config.check(value)


def test_a_run_is_a_network_of_torchvisions_to_the_last_bit(tmp_path: Path) -> None:
    """The block of the README, on the weights of a real run."""
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(8):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
            tmp_path / "images" / f"{number}.png"
        )
    overrides = ["data.train.path=images", "epochs=null", "steps=2", "data.train.batch_size=4"]
    overrides += ["data.train.num_workers=0", "data.train.views.transforms.0.size=32", "callbacks=[]"]
    run = ssltyped.launch(load_recipe("recipes.simclr_folder"), overrides, name="simclr_folder")
    names: dict[str, Any] = {}
    exec(next(one for one in blocks("python") if "torchvision" in one), names)
    network, images = names["network"].eval(), torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(images), run.model.extract(images, "flatten"))


@pytest.mark.usefixtures("my_package")
@pytest.mark.parametrize("arguments", commands("... "), ids=" ".join)
def test_its_overrides_can_be_planned(arguments: list[str]) -> None:
    overrides = [one for one in arguments if one != "--multirun"]
    if "--multirun" in arguments:
        assert len(runs(QUICKSTART, overrides, multirun=True)) == 6
    else:
        assert "parts" in plan(override(load_recipe(QUICKSTART), overrides), "readme")


@pytest.mark.parametrize("text", re.findall(r"`(loss=.*?)`", README.replace("\n", " ")))
def test_its_methods_can_be_planned(text: str) -> None:
    assert "memory on the rank" in plan(override(load_recipe(QUICKSTART), text.split()), "readme")


@pytest.mark.parametrize("arguments", commands("-m ssltyped.run recipes."), ids=" ".join)
def test_its_commands_are_valid(arguments: list[str]) -> None:
    name, *rest = [one for one in arguments if not one.startswith("-")]
    if not rest:
        assert main([f"recipes.{name}", *(arguments[1:] or ["--plan"])]) == 0
    elif "+init=Load" in rest:
        assert config.check(override(load_recipe(f"recipes.{name}"), rest)).init
    else:
        changes = ["data.train.path=." if one.startswith("data.train.path=") else one for one in rest]
        config.check(override(load_root(f"recipes.{name}"), changes))


def test_it_quotes_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (quoted,) = [one for one in blocks("") if one.startswith("error: ")]
    overrides = [f"data.train.path={tmp_path}", "loss.temprature=0.1", "trunk.depth=10"]
    assert main(["recipes.simclr_folder", *overrides]) == 2
    assert capsys.readouterr().err == quoted


def test_it_quotes_a_plan() -> None:
    (quoted,) = [one for one in blocks("") if one.startswith("inferred\n")]
    planned = plan(load_recipe("recipes.simclr_8node"), "simclr_8node").splitlines()
    assert not [line for line in quoted.splitlines() if line not in planned]


def test_the_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"`(?:python )?((?:tests|tools|recipes|src)/[\w./]*\w)[ `]", README))
    assert len(named) > 8
    assert not [name for name in named if not (ROOT / name).exists()]


def test_its_layers_are_those_that_are_checked() -> None:
    (layout,) = [one for one in blocks("") if one.startswith("src/ssltyped/")]
    layers: dict[str, int] = {}
    number = -1
    for line in layout.splitlines()[1:-1]:
        number = int(line[:4].strip() or number)
        layers |= {name.removesuffix(".py").rstrip("/"): number for name in re.split(r"\s{2,}", line[5:])[0].split()}
    assert layers == {name: layer for name, layer in LAYERS.items() if name not in ("", "__main__")}


def test_it_quotes_what_a_file_of_weights_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Word for word, of a network of torchvision under this name."""
    (quoted,) = [one for one in blocks("") if one.startswith("$ python -m ssltyped.weights show")]
    torch.save(resnet50().state_dict(), "resnet50.pth")
    told = []
    for line in quoted.splitlines():
        if line.startswith("$ python -m ssltyped.weights "):
            told.append(line)
            assert weights_main(line.split()[4:]) == 0
            told += capsys.readouterr().out.splitlines()
    assert quoted.splitlines() == told

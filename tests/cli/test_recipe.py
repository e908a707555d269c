"""Recipes by name: shipped ones, a user's own, files; and what is said about those that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from recipes_shipped import TASKS

from recipes.simclr import simclr
from ssltyped import config
from ssltyped.cli.recipe import load_recipe, load_root, shipped, shipped_folder, short_name
from ssltyped.config import ConfigError

GOOD = (
    "from recipes.simclr import simclr\n\nrecipe = simclr(epochs=3)\n\n\ndef long():\n    return simclr(epochs=300)\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a user has modules; none of them stays imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def said(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(folder: Path, text: str) -> str:
    """A module with this text; its name is new in every test, for modules are imported once."""
    name = f"mine_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(text)
    return name


def test_the_shipped_recipes() -> None:
    assert shipped_folder().is_dir()
    assert {"recipes.quickstart", "recipes.simclr_8node", "recipes.simclr_1gpu"} <= set(shipped())
    assert "recipes.simclr" not in shipped()
    for name in shipped():
        assert config.is_config(load_root(name))
    assert [f"recipes.{name}" for name in ("evals.knn", "evals.linear", "evals.retrieval", "extract_features")] == TASKS


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("recipes.simclr_8node", "simclr_8node"),
        ("mine", "mine"),
        ("mine:long", "long"),
        ("mine:recipe", "mine"),
        ("a.b.c:", "c"),
        ("runs/simclr/resolved.yaml", "simclr"),
        ("resolved.yaml", "resolved"),
    ],
)
def test_what_a_run_of_a_recipe_is_called(name: str, short: str) -> None:
    assert short_name(name) == short


def test_a_recipe_of_ones_own(folder: Path) -> None:
    name = write(folder, GOOD)
    assert load_recipe(name) == simclr(epochs=3)
    assert load_recipe(f"{name}:recipe") == simclr(epochs=3)
    assert load_recipe(f"{name}:long") == simclr(epochs=300)


def test_a_recipe_from_a_file(folder: Path) -> None:
    (folder / "asked.yaml").write_text(config.to_yaml(simclr(epochs=7)))
    assert load_recipe(str(folder / "asked.yaml")) == simclr(epochs=7)
    (folder / "wrong.yaml").write_text("_target_: ssltyped.losses.simclr.SimCLRLoss\n")
    assert "is no recipe but SimCLRLoss" in said("wrong.yaml")
    (folder / "broken.yaml").write_text("a: [")
    assert "not a readable YAML config" in said("broken.yaml").splitlines()[0]
    assert "there is no such file" in said("nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe = (\n", "SyntaxError: '(' was never closed"),
        ("x = 1\nimport no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\nfrom ssltyped import no_such\n", "ImportError: cannot import name 'no_such'"),
        ("x = 1\nrecipe = undefined\n", "NameError: name 'undefined' is not defined"),
        (
            "from recipes.simclr import simclr\nrecipe = simclr(nods=8)\n",
            "TypeError: simclr() got an unexpected keyword argument 'nods'",
        ),
        (
            "from ssltyped.losses.simclr import SimCLRLossConf\nrecipe = SimCLRLossConf(temprature=1)\n",
            "TypeError: SimCLRLoss has no field 'temprature'; did you mean 'temperature'?",
        ),
    ],
)
def test_a_module_that_fails_is_named_with_its_line(folder: Path, text: str, message: str) -> None:
    name = write(folder, text)
    found = said(name)
    assert found.startswith(f"{name}: cannot be imported: ")
    assert message in found
    assert f"{name}.py, line {text.count(chr(10))})" in found


@pytest.mark.parametrize(
    ("text", "attribute", "message"),
    [
        ("x = 1\n", "", "has no 'recipe'"),
        (GOOD, ":recip", "has no 'recip'; did you mean 'recipe'?"),
        ("recipe = 3\n", "", "is no recipe but int: want ExperimentConf(...)"),
        ("recipe = 'simclr'\n", "", "is no recipe but str"),
        ("recipe = None\n", "", "has no 'recipe'"),
        (
            "from ssltyped.losses.simclr import SimCLRLossConf\nrecipe = SimCLRLossConf()\n",
            "",
            "is no recipe but SimCLRLoss",
        ),
        ("from ssltyped.experiment import ExperimentConf\nrecipe = ExperimentConf\n", "", "missing 9 required"),
        ("def recipe():\n    return 3\n", "", "is no recipe but int"),
        ("def recipe(*, nodes):\n    return nodes\n", "", "missing 1 required keyword-only argument: 'nodes'"),
        ("def recipe():\n    return undefined\n", "", "NameError: name 'undefined' is not defined"),
    ],
)
def test_what_is_no_recipe(folder: Path, text: str, attribute: str, message: str) -> None:
    name = write(folder, text)
    found = said(name + attribute)
    assert found.startswith(name)
    assert message in found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recipes.simclr_8nod", "there is no such recipe; did you mean 'recipes.simclr_8node'?"),
        ("no_such_module", "there is no such recipe; known: recipes."),
        ("recipes.simclr:nothing", "has no 'nothing'"),
        ("recipes.simclr_8node.x", "there is no such recipe"),
        ("", "names no recipe"),
        (".", "names no recipe"),
        ("..simclr", "names no recipe"),
        (":recipe", "names no recipe"),
        ("recipes/simclr_8node.py", "names no recipe"),
        ("a b", "names no recipe"),
        ("recipes.", "names no recipe"),
    ],
)
def test_a_name_that_is_none(name: str, message: str) -> None:
    assert message in said(name)


@pytest.mark.parametrize("package", [True, False], ids=["package", "folder"])
def test_recipes_of_ones_own_do_not_hide_the_shipped_ones(tmp_path: Path, package: bool) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.py").write_text("from recipes.simclr import simclr\n\nrecipe = simclr(epochs=3)\n")
    if package:
        (tmp_path / "recipes" / "__init__.py").write_text("")
    code = (
        "from ssltyped.cli.recipe import load_recipe\n"
        "assert load_recipe('recipes.simclr_8node').epochs == 100\n"
        "assert load_recipe('recipes.mine').epochs == 3\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [tmp_path, root / "src", root]))}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_the_same_after_yaml(name: str) -> None:
    paths = (
        {"data.path": Path("images"), "weights": Path("run")} if name in TASKS else {"data.train.path": Path("images")}
    )
    recipe = config.replaced(load_root(name), paths)
    assert config.from_yaml(config.to_yaml(recipe)) == config.check(recipe)
    assert config.to_yaml(config.from_yaml(config.to_yaml(recipe))) == config.to_yaml(config.check(recipe))


def test_a_file_is_named_as_its_module(folder: Path) -> None:
    name = write(folder, GOOD)
    for path in (f"{name}.py", f"./{name}.py", f"./{name}", str(folder / name), str(folder / f"{name}.py")):
        assert said(path) == f"{path}: names no recipe: want a module, which is {name}"


def test_no_path_of_the_machine_is_suggested(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    beside = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    beside.write_text(GOOD)
    for path, told in (
        (str(beside), ", which is mine, from where its folder is on the path"),
        (f"{folder}/recipes/quikstart.py", "; did you mean 'recipes.quickstart'?"),
        (f"{folder}/nothing/simclr_8nod", "; did you mean 'recipes.simclr_8node'?"),
        (f"{folder}/zzz.py", "; known: recipes."),
        ("x" * 5000, "there is no such recipe"),
        ("x" * 5000 + ".py", "names no recipe"),
        ("x" * 5000 + ".yaml", "there is no such file"),
        ("a\0b.yaml", "there is no such file"),
    ):
        remedy = said(path).partition(": ")[2]
        assert told in remedy
        assert str(folder) not in remedy
        assert str(beside.parent) not in remedy


def test_a_module_without_a_recipe_names_what_makes_one() -> None:
    assert said("recipes.simclr").endswith("recipes.simclr has no 'recipe'; known: recipes.simclr:simclr")
    assert said("recipes").endswith(f"recipes has no 'recipe'; known: {', '.join(shipped())}")


@pytest.mark.parametrize("text", ["import sys\nsys.exit(0)\n", "raise SystemExit\n", "def recipe():\n    exit()\n"])
def test_a_recipe_that_leaves(folder: Path, text: str) -> None:
    found = said(write(folder, text))
    assert "SystemExit: sys.exit was called" in found
    assert f"line {text.count(chr(10))})" in found


def test_an_override_in_the_place_of_the_recipe() -> None:
    for text in ("epochs=3", "~callbacks.0", "+callbacks=KNN"):
        assert said(text) == f"{text}: is an override: the recipe comes first, RECIPE [OVERRIDE ...]"

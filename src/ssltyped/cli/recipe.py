"""Recipes by name: `recipes.simclr_8node`, `my_recipes:large`, `runs/simclr/resolved.yaml`."""

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.hints import brief, failure, nearest
from ssltyped.experiment import Experiment
from ssltyped.tasks.running import is_task
from ssltyped.types import Problem, Task

Root: TypeAlias = Experiment | Task
"""What a recipe is."""

_PACKAGE = Path(__file__).parents[1]


def shipped_folder() -> Path:
    """Where the recipes of this library lie: beside the package, or beside `src` in a checkout."""
    beside = _PACKAGE.parent / "recipes"
    return beside if beside.is_dir() else _PACKAGE.parent.parent / "recipes"


def shipped() -> list[str]:
    """The names of the shipped recipes that can be run as they are."""
    folder = shipped_folder()
    return [
        ".".join(["recipes", *file.relative_to(folder).with_suffix("").parts])
        for file in sorted(folder.rglob("*.py"))
        if "\nrecipe = " in file.read_text() or "\nrecipe: " in file.read_text()
    ]


def short_name(name: str) -> str:
    """What a run of this recipe is called: the last part of its name."""
    if name.endswith((".yaml", ".yml")):
        return Path(name).parent.name or Path(name).stem
    module, _, attribute = name.partition(":")
    return attribute if attribute not in ("", "recipe") else module.rpartition(".")[2]


def load_recipe(name: str) -> Experiment:
    """The training that a name says. Raises `ConfigError` as `load_root`, and for a task."""
    found = load_root(name)
    if is_task(found):
        raise ConfigError([Problem(name, f"is no training but the task {config.part_of(found).name}: see load_root")])
    return found


def load_root(name: str) -> Root:
    """The recipe that a name says. Raises `ConfigError` with the nearest known name, or the line that fails."""
    if name.endswith((".yaml", ".yml")):
        if not is_file(Path(name)):
            raise ConfigError([Problem(name, "there is no such file")])
        return _checked_kind(name, config.from_yaml(Path(name).read_text()))
    module_name, _, attribute = name.partition(":")
    module = _import(module_name)
    found = getattr(module, attribute or "recipe", None)
    if found is None:
        known = [key for key, value in vars(module).items() if _is_recipe(value)]
        near = nearest(attribute, known if attribute else [f"{module_name}:{key}" for key in known])
        near = near or f"; known: {', '.join(shipped())}"
        raise ConfigError([Problem(name, f"{module_name} has no {attribute or 'recipe'!r}{near}")])
    return _checked_kind(name, found if config.is_config(found) or not callable(found) else _called(found, name))


def about(name: str) -> str:
    """The docstring of a recipe: of the function that makes it, else of its module; empty for a file."""
    if name.endswith((".yaml", ".yml")):
        return ""
    module_name, _, attribute = name.partition(":")
    module = _import(module_name)
    found = getattr(module, attribute, None)
    return (inspect.getdoc(found) if inspect.isfunction(found) else None) or inspect.getdoc(module) or ""


def _is_recipe(value: object) -> bool:
    """A recipe, or a function that says that it makes one."""
    made = getattr(value, "__annotations__", {}).get("return")
    return config.is_config(value) or made in (Experiment, "Experiment", Task, "Task")


def is_file(path: Path) -> bool:
    """Whether there is a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _called(recipe: Callable[[], object], name: str) -> object:
    try:
        return recipe()
    except (Exception, SystemExit) as error:  # as in _import
        raise ConfigError([Problem(name, f"cannot be made: {failure(error)}")]) from error


def _checked_kind(name: str, found: object) -> Root:
    if config.is_config(found) and issubclass(config.part_of(found).kind, Experiment | Task):
        return found  # type: ignore[return-value]  # a config is typed as what it builds
    raise ConfigError([Problem(name, f"is no recipe but {type(found).__name__}: want ExperimentConf(...)")])


def _import(name: str) -> ModuleType:
    """The module; a folder `recipes` of the user's does not hide the shipped one."""
    _join_recipes()
    if not all(step.isidentifier() for step in name.split(".")) or name.endswith(".py"):
        if "=" in name or name.startswith(("~", "+")):
            raise ConfigError([Problem(brief(name), "is an override: the recipe comes first, RECIPE [OVERRIDE ...]")])
        raise ConfigError([Problem(brief(name) or "''", f"names no recipe: want a module{_module_at(name)}")])
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError([Problem(name, f"cannot be imported: {failure(error)}")]) from error
        raise ConfigError([Problem(name, f"there is no such recipe{nearest(name, shipped())}")]) from error
    except ConfigError as error:
        raise ConfigError([Problem(f"{name}.{p.path}", p.message) for p in error.problems]) from error
    except (Exception, SystemExit) as error:  # what a user's module raises is the user's to mend; its line is shown
        raise ConfigError([Problem(name, f"cannot be imported: {failure(error)}")]) from error


def _module_at(path: str) -> str:
    """The module of a file that is given in place of it, or the nearest shipped one: never a path of the machine."""
    file = Path(path.removesuffix(".py") + ".py")
    if not is_file(file):
        words = re.findall(r"\w+", path.removesuffix(".py"))
        return nearest(f"recipes.{words[-1] if words else ''}", shipped())
    for folder in (Path(entry).resolve() for entry in sys.path):
        if file.resolve().is_relative_to(folder):
            steps = file.resolve().relative_to(folder).with_suffix("").parts
            if all(step.isidentifier() for step in steps):
                return f", which is {'.'.join(steps)}"
    return f", which is {file.stem}, from where its folder is on the path: start it there, or set PYTHONPATH"


def _join_recipes() -> None:
    """Let `recipes` be every folder of this name on the path and the shipped one, in this order."""
    shipped_one = shipped_folder()
    if str(shipped_one.parent) not in sys.path:
        sys.path.append(str(shipped_one.parent))
        importlib.invalidate_caches()
    package = importlib.import_module("recipes")
    folders = [(Path(entry) / "recipes").resolve() for entry in sys.path]
    package.__path__ = list(dict.fromkeys(str(folder) for folder in [*folders, shipped_one] if folder.is_dir()))

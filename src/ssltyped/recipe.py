"""Recipes by name: `recipes.simclr_8node`, `my_recipes:large`, `runs/simclr/resolved.yaml`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.experiment import Experiment
from ssltyped.hints import failure, nearest
from ssltyped.types import Problem

_PACKAGE = Path(__file__).parent


def shipped_folder() -> Path:
    """Where the recipes of this library lie: beside the package, or beside `src` in a checkout."""
    beside = _PACKAGE.parent / "recipes"
    return beside if beside.is_dir() else _PACKAGE.parent.parent / "recipes"


def shipped() -> list[str]:
    """The names of the shipped recipes that can be run as they are."""
    return [
        f"recipes.{file.stem}"
        for file in sorted(shipped_folder().glob("*.py"))
        if "\nrecipe = " in file.read_text() or "\nrecipe: " in file.read_text()
    ]


def short_name(name: str) -> str:
    """What a run of this recipe is called: the last part of its name."""
    if name.endswith((".yaml", ".yml")):
        return Path(name).parent.name or Path(name).stem
    module, _, attribute = name.partition(":")
    return attribute if attribute not in ("", "recipe") else module.rpartition(".")[2]


def load_recipe(name: str) -> Experiment:
    """The recipe that a name says. Raises `ConfigError` with the nearest known name, or the line that fails."""
    if name.endswith((".yaml", ".yml")):
        return _checked_kind(name, _from_file(Path(name)))
    module_name, _, attribute = name.partition(":")
    module = _import(module_name)
    found = getattr(module, attribute or "recipe", None)
    if found is None:
        known = [key for key, value in vars(module).items() if config.is_config(value)]
        raise ConfigError([Problem(name, f"{module_name} has no {attribute or 'recipe'!r}{nearest(attribute, known)}")])
    return _checked_kind(name, found() if callable(found) and not config.is_config(found) else found)


def _checked_kind(name: str, found: object) -> Experiment:
    if config.is_config(found) and issubclass(config.part_of(found).kind, Experiment):
        return found  # type: ignore[return-value]  # a config is typed as what it builds
    raise ConfigError([Problem(name, f"is no recipe but {type(found).__name__}: want ExperimentConf(...)")])


def _from_file(path: Path) -> object:
    if not path.is_file():
        raise ConfigError([Problem(str(path), "there is no such file")])
    return config.from_yaml(path.read_text())


def _import(name: str) -> ModuleType:
    """The module; a folder `recipes` of the user's does not hide the shipped one."""
    if name.split(".")[0] == "recipes":
        _join_shipped()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError([Problem(name, failure(error))]) from error
        raise ConfigError([Problem(name, f"there is no such recipe{nearest(name, shipped())}")]) from error
    except ConfigError as error:
        raise ConfigError([Problem(f"{name}.{p.path}", p.message) for p in error.problems]) from error
    except Exception as error:  # whatever a user's module raises is the user's to mend, and is shown with its line
        raise ConfigError([Problem(name, failure(error))]) from error


def _join_shipped() -> None:
    """Let `recipes` be the user's folder and the shipped one together; the user's comes first."""
    folder = str(shipped_folder())
    with contextlib.suppress(ModuleNotFoundError):
        package = importlib.import_module("recipes")
        if folder not in list(package.__path__):
            package.__path__ = [*package.__path__, folder]
        return
    sys.path.append(str(Path(folder).parent))
    importlib.invalidate_caches()

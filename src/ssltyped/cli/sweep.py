"""The runs that a command asks for: one, or every combination of a sweep."""

from collections.abc import Sequence

from ssltyped import config
from ssltyped.cli.recipe import load_recipe, short_name
from ssltyped.config.grammar import expand
from ssltyped.config.overrides import override
from ssltyped.experiment import Experiment, FactFinder, resolve_experiment


def runs(recipe: str, overrides: Sequence[str], multirun: bool) -> list[tuple[str, Experiment, list[str]]]:
    """Name, config and overrides of each run; those of a sweep have a folder each, numbered in the recipe's.

    Raises `ConfigError`: the mistakes of the last run are found before the first one trains.
    """
    loaded, name = load_recipe(recipe), short_name(recipe)
    if not multirun:
        return [(name, override(loaded, overrides), list(overrides))]
    swept = [(override(loaded, changes), changes) for changes in expand(overrides)]
    named = [config.replaced(one, {"name": f"{one.name or name}/{i}"}) for i, (one, _) in enumerate(swept)]
    find = FactFinder()
    for one in named:
        resolve_experiment(one, name, find)
    return [(name, one, changes) for one, (_, changes) in zip(named, swept, strict=True)]

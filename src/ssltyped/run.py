"""The command line: `python -m ssltyped.run RECIPE [OVERRIDE ...]`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.engine.trainer import Outcome
from ssltyped.launch import launch
from ssltyped.overrides import expand, override
from ssltyped.plan import plan
from ssltyped.recipe import load_recipe, shipped, short_name
from ssltyped.show import show, show_components, show_fields, table

DONE, FAILED, USER_MISTAKE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the run failed, 2 the user's mistake, 130 interrupted (after saving)."""
    parser = argparse.ArgumentParser("python -m ssltyped.run", description=__doc__, add_help=False)
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a module with `recipe`, module:name, or a .yaml")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="path=value, in Hydra's grammar")
    parser.add_argument("--plan", action="store_true", help="what would run, and why; nothing runs")
    parser.add_argument("--print", action="store_true", help="the recipe with its overrides, as a tree")
    parser.add_argument("--multirun", action="store_true", help="run every combination of a=1,2 b=range(3)")
    parser.add_argument("--list", action="store_true", help="every component there is, with its parameters")
    parser.add_argument("-h", "--help", action="store_true", help="every field of RECIPE")
    options = parser.parse_intermixed_args(argv)
    try:
        if options.list:
            print(show_components(), end="")
        elif options.recipe is None:
            print(parser.format_help() + "\nrecipes: " + ", ".join(shipped()))
            return DONE if options.help else USER_MISTAKE
        elif options.help:
            print(parser.format_usage() + f"\nfields of {options.recipe}:\n" + show_fields(load_recipe(options.recipe)))
        elif options.print:
            print(show(override(load_recipe(options.recipe), options.overrides)), end="")
        elif options.plan:
            print(plan(override(load_recipe(options.recipe), options.overrides), short_name(options.recipe)), end="")
        else:
            return _run(options.recipe, options.overrides, options.multirun)
    except ConfigError as error:
        print(
            f"error: {options.recipe} is not started:\n" + "".join(f"  {p}\n" for p in error.problems),
            file=sys.stderr,
            end="",
        )
        return USER_MISTAKE
    return DONE


def _run(recipe: str, overrides: list[str], multirun: bool) -> int:
    loaded, name = load_recipe(recipe), short_name(recipe)
    combinations = expand(overrides) if multirun else [overrides]
    for combination in combinations:  # a mistake in the last one is found before the first one trains
        override(loaded, combination)
    results: list[tuple[list[str], dict[str, float]]] = []
    for number, combination in enumerate(combinations):
        one = config.replaced(loaded, {"name": f"{loaded.name or name}/{number}"}) if multirun else loaded
        try:
            run = launch(one, combination, name=name)
        except KeyboardInterrupt:
            return INTERRUPTED
        except ConfigError:
            raise
        except Exception:  # shown whole: a failed run is not the user's mistake
            traceback.print_exc()
            return FAILED
        if run.outcome is Outcome.INTERRUPTED:
            print(f"interrupted, and saved in {run.folder}: the same command goes on from there")
            return INTERRUPTED
        results.append((combination, run.metrics))
        print(f"done: {run.folder}  " + "  ".join(f"{key} {value:.4g}" for key, value in run.metrics.items()))
    if multirun:
        print(table(results))
    return DONE


if __name__ == "__main__":
    sys.exit(main())

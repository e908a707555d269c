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
FLAGS = {
    "--plan": "what would run, and why; nothing runs",
    "--print": "the recipe with its overrides, as a tree",
    "--multirun": "run every combination of a=1,2 b=range(3)",
    "--list": "every component there is, with its parameters",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the run failed, 2 the user's mistake, 130 interrupted (after saving)."""
    parser = argparse.ArgumentParser("python -m ssltyped.run", description=__doc__, add_help=False)
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a module with `recipe`, module:name, or a .yaml")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="path=value, in Hydra's grammar")
    parser.add_argument("-h", "--help", action="store_true", help="every field of RECIPE")
    for flag, text in FLAGS.items():
        parser.add_argument(flag, action="store_true", help=text)
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
        print(f"error: {options.recipe} is not started:", *error.problems, sep="\n  ", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:  # shown whole: a failed run is not the user's mistake
        traceback.print_exc()
        return FAILED
    return DONE


def _run(recipe: str, overrides: list[str], multirun: bool) -> int:
    loaded, name = load_recipe(recipe), short_name(recipe)
    combinations = expand(overrides) if multirun else [overrides]
    checked = [override(loaded, combination) for combination in combinations]  # all, before the first one trains
    results: list[tuple[list[str], dict[str, float]]] = []
    for number, (one, combination) in enumerate(zip(checked, combinations, strict=True)):
        run = launch(config.replaced(one, {"name": f"{one.name or name}/{number}"}) if multirun else one, name=name)
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

"""The command line: `python -m ssltyped.run RECIPE [OVERRIDE ...]`."""

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from ssltyped.cli.plan import plan
from ssltyped.cli.recipe import load_recipe, shipped
from ssltyped.cli.sweep import runs, sweep, train
from ssltyped.config import ConfigError
from ssltyped.config.overrides import override
from ssltyped.config.show import show, show_components, show_fields
from ssltyped.data.reading import DataError
from ssltyped.engine.interrupt import end_once
from ssltyped.engine.parallel import say

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
        if options.recipe is None and not options.list:
            say(parser.format_help() + "\nrecipes: " + ", ".join(shipped()))
            return DONE if options.help else USER_MISTAKE
        if text := _asked_for(options):
            say(text.rstrip("\n"))
            return DONE
        members = runs(options.recipe, options.overrides, options.multirun)
        if options.multirun:
            return DONE if sweep(members) else FAILED
        train(members[0])
    except ConfigError as error:
        print(f"error: {options.recipe} is not started:", *error.problems, sep="\n  ", file=sys.stderr)
        return USER_MISTAKE
    except DataError as error:
        print(f"error: {options.recipe} failed: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Exception, SystemExit):  # shown whole: a failed run is not the user's mistake, nor is a part that leaves
        traceback.print_exc()
        return FAILED
    return DONE


def command() -> None:
    """The process of a command: Ctrl-C ends it, also where no run listens to it."""
    code = INTERRUPTED
    with suppress(KeyboardInterrupt):
        signal.signal(signal.SIGINT, end_once)
        code = main()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _asked_for(options: argparse.Namespace) -> str:
    """The text that a flag asks for; empty if it is a run."""
    if options.list or not (options.help or options.print or options.plan):
        return show_components() if options.list else ""
    if options.help:  # also of a recipe that still lacks a required field
        asked = load_recipe(options.recipe)
        asked = override(asked, options.overrides) if options.overrides else asked
        return f"fields of {options.recipe}:\n" + show_fields(asked)
    members = runs(options.recipe, options.overrides, options.multirun)
    texts = [show(one.asked) if options.print else plan(one.asked, one.name) for one in members]
    if options.multirun:
        heads = (f"run {number}: {' '.join(one.changes)}\n" for number, one in enumerate(members))
        texts = [f"{head}{text}\n" for head, text in zip(heads, texts, strict=True)]
    return "".join(texts)


if __name__ == "__main__":
    command()

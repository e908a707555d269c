"""The command line: `python -m ssltyped.run RECIPE [OVERRIDE ...]`."""

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from ssltyped.cli.flags import FLAGS, fields, plans, trees
from ssltyped.cli.recipe import shipped
from ssltyped.cli.sweep import ended, runs, sweep
from ssltyped.config import ConfigError
from ssltyped.config.hints import brief
from ssltyped.config.show import show_components
from ssltyped.engine.interrupt import end_once
from ssltyped.engine.parallel import say
from ssltyped.launch import launch
from ssltyped.types import RunStoppedError

DONE, FAILED, USER_MISTAKE, INTERRUPTED = 0, 1, 2, 130


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
        if options.list or options.help:
            say(show_components() if options.list else fields(options.recipe, options.overrides))
            return DONE
        members = runs(options.recipe, options.overrides, options.multirun, options.strict)
        if options.print or options.plan:
            say((trees if options.print else plans)(members))
        elif options.multirun:
            return DONE if sweep(members) else FAILED
        else:
            ended(launch(members[0].asked, name=members[0].name, strict=options.strict))
    except ConfigError as error:
        print(f"error: {brief(options.recipe)} is not started:", *error.problems, sep="\n  ", file=sys.stderr)
        return USER_MISTAKE
    except RunStoppedError as error:
        print(f"error: {brief(options.recipe)} failed: {error}", file=sys.stderr)
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


if __name__ == "__main__":
    command()

"""The command line of weights: `python -m ssltyped.weights show FILE`, `... export RUN --to LIBRARY OUT`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ssltyped.config import ConfigError
from ssltyped.weights.export import Target, export
from ssltyped.weights.show import show

DONE, USER_MISTAKE = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the user's mistake."""
    parser = argparse.ArgumentParser("python -m ssltyped.weights", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    told = "the folder of a run, or a file of weights"
    showing = commands.add_parser("show", help="what it is, and into which trunk it fits")
    showing.add_argument("path", type=Path, metavar="FILE_OR_RUN", help=told)
    exporting = commands.add_parser("export", help="write its trunk as another library reads it")
    exporting.add_argument("path", type=Path, metavar="RUN_OR_FILE", help=told)
    exporting.add_argument("--to", required=True, choices=[one.value for one in Target], help="who is to read it")
    exporting.add_argument("out", type=Path, metavar="OUT", help="the file, or for hf the folder, that is written")
    exporting.add_argument("--overwrite", action="store_true", help="take the place of what is there")
    options = parser.parse_args(argv)
    try:
        if options.command == "show":
            print(show(options.path), end="")
        else:
            print(export(options.path, Target(options.to), options.out, overwrite=options.overwrite), end="")
    except ConfigError as error:
        print(f"error: {options.path} is not {_PAST[options.command]}:", *error.problems, sep="\n  ", file=sys.stderr)
        return USER_MISTAKE
    return DONE


_PAST = {"show": "shown", "export": "exported"}

if __name__ == "__main__":
    sys.exit(main())

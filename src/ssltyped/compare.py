"""What is different between runs, and what they measured: `python -m ssltyped.compare RUN RUN ...`."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.hints import columns, failure, plain
from ssltyped.types import Problem

DONE, USER_MISTAKE = 0, 2
_ITS_OWN = ("name", "output", "resume")
"""What is another in every run."""
WIDEST = 40


def compare(folders: Sequence[Path]) -> str:
    """Fields of the resolved configs that are not the same in all of these runs, and the newest of all their metrics.

    A part that is another one is one line, with its class and without its fields. A metric that was measured before the
    first step has that value too. Runs that still train, or were stopped, are compared as far as they are. Raises
    `ConfigError` for a folder that is none of a run.
    """
    problems, fields, metrics = list[Problem](), list[Mapping[str, str]](), list[Mapping[str, str]]()
    for folder in folders:
        try:
            fields.append(dict(_fields(folder)))
            metrics.append(dict(_metrics(folder)))
        except ConfigError as error:
            problems += [Problem(str(folder / "resolved.yaml"), str(problem)) for problem in error.problems]
        except OSError as error:
            problems.append(Problem(str(folder), f"is not the folder of a run: it has no {Path(error.filename).name}"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append(Problem(str(folder), f"has a damaged metrics.jsonl or resolved.yaml: {failure(error)}"))
    if problems:
        raise ConfigError(problems)
    differing = dict[str, list[str]]()
    for path, values in _by_name(fields):
        if len(set(values)) > 1 and not any(path.startswith(f"{part}.") for part in differing):
            differing[path] = values
    none = [""] * len(folders)
    rows = [["", *map(str, folders)], ["differs", *none]]
    rows += [[f"  {path}", *map(_brief, values)] for path, values in differing.items()] or [["  nothing", *none]]
    rows += [["measured", *none], *([f"  {name}", *values] for name, values in _by_name(metrics))]
    return "".join(f"{line}\n" for line in columns(rows))


def _brief(value: str) -> str:
    """Its end, where paths differ."""
    return value if len(value) <= WIDEST else f"...{value[3 - WIDEST :]}"


def _by_name(of_runs: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, list[str]]]:
    for name in dict.fromkeys(name for of_run in of_runs for name in of_run):
        yield name, [of_run.get(name, "-") for of_run in of_runs]


def _fields(folder: Path) -> Iterator[tuple[str, str]]:
    """Every field of the resolved recipe by its path; a part by its class."""
    tree = config.to_tree(config.from_yaml((folder / "resolved.yaml").read_text(encoding="utf-8")))
    for path, value in config.leaves(tree):
        part = path.removesuffix("._target_")
        if path not in _ITS_OWN:
            yield part, value.rpartition(".")[2] if part != path else plain(value)


def _metrics(folder: Path) -> Iterator[tuple[str, str]]:
    """The newest value of each metric, and the first one of those that are measured now and then."""
    written, result = folder / "metrics.jsonl", folder / "result.json"
    if written.exists():
        lines = written.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last one of a killed run may be cut
    else:  # of a measure, or a training without the callback that writes metrics
        rows = [json.loads(result.read_text(encoding="utf-8"))["metrics"]] if result.exists() else []
    newest = {name: value for row in rows for name, value in row.items()}
    first = {name: value for row in reversed(rows) if row.get("step") == 0 for name, value in row.items()}
    for name, value in newest.items():
        counted = name in ("step", "epoch", "images")
        at_start = f" (from {first[name]:.4g})" if name in first and not counted else ""
        yield name, f"{value}" if counted else f"{value:.4g}{at_start}"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the user's mistake."""
    parser = argparse.ArgumentParser("python -m ssltyped.compare", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run")
    options = parser.parse_args(argv)
    if len(options.runs) < 2:
        parser.error("give at least two runs")
    try:
        print(compare(options.runs), end="")
    except ConfigError as error:
        print("error: the runs are not compared:", *error.problems, sep="\n  ", file=sys.stderr)
        return USER_MISTAKE
    return DONE


if __name__ == "__main__":
    sys.exit(main())

"""The runs that a command asks for: one, or every combination of a sweep."""

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from ssltyped import config
from ssltyped.cli.recipe import Root, load_root, short_name
from ssltyped.config import ConfigError
from ssltyped.config.grammar import expand
from ssltyped.config.overrides import override
from ssltyped.config.show import table
from ssltyped.engine.folder import finished
from ssltyped.engine.parallel import Place, say
from ssltyped.engine.trainer import Outcome
from ssltyped.launch import Run, hindrances, launch
from ssltyped.resolution import FactFinder, resolve_experiment
from ssltyped.tasks.running import TaskRun, done_before, is_task, resolve_task
from ssltyped.types import RunStoppedError, loud, metrics_text


class Member(NamedTuple):
    """One run: the name of its recipe, the recipe with its overrides, these, and whether warnings are errors."""

    name: str
    asked: Root
    changes: list[str]
    strict: bool = False


def runs(recipe: str, overrides: Sequence[str], multirun: bool, strict: bool = False) -> list[Member]:
    """The runs of a command; those of a sweep have a folder each, numbered in the recipe's.

    Raises `ConfigError`: the mistakes of the last run are found before the first one trains.
    """
    loaded, name = load_root(recipe), short_name(recipe)
    if not multirun:
        return [Member(name, override(loaded, overrides), list(overrides), strict)]
    swept = [(override(loaded, changes), changes) for changes in expand(overrides)]
    named = [config.replaced(one, {"name": f"{one.name or name}/{i}"}) for i, (one, _) in enumerate(swept)]
    find = FactFinder()
    for one in named:
        if is_task(one):
            resolve_task(one, name, strict=strict)
        else:
            resolve_experiment(one, name, find, strict=strict)
    return [Member(name, one, changes, strict) for one, (_, changes) in zip(named, swept, strict=True)]


def ended(run: Run | TaskRun) -> Mapping[str, float]:
    """Say how a run ended, and its metrics. Raises KeyboardInterrupt for one that was interrupted, and is saved."""
    if isinstance(run, Run) and run.outcome is Outcome.INTERRUPTED:
        say(f"interrupted, and saved in {run.folder}: resume=auto goes on from there")
        raise KeyboardInterrupt
    say(f"done: {run.folder}  {metrics_text(run.metrics)}")
    return run.metrics


def sweep(members: Sequence[Member]) -> bool:
    """Run them all and show a table; whether none has failed. One that fails is told, and the others go on.

    What a sweep with the same command has finished before is not run again, unless with resume=never. Raises
    `ConfigError`, before anything is written, if one of them could not start.
    """
    before = list(_done_before(members))
    rows: list[tuple[Sequence[str], Optional[Mapping[str, float]]]] = []
    try:
        for number, (member, metrics) in enumerate(zip(members, before, strict=True)):
            say(f"run {number} of {len(members)}" + ("" if metrics is None else " was done before"))
            found = _tried(member) if metrics is None else metrics
            rows.append((member.changes, None if found is None else loud(found)))
    finally:
        if rows:
            say(table(rows))
    return all(metrics is not None for _, metrics in rows)


def _done_before(members: Sequence[Member]) -> Iterator[Optional[Mapping[str, float]]]:
    find = FactFinder()
    for member in members:
        if is_task(member.asked):
            yield done_before(member.asked, member.name)
            continue
        resolution = resolve_experiment(member.asked, member.name, find)
        resolved = resolution.config
        if wrong := hindrances(resolution, find):
            raise ConfigError(wrong)
        folder = resolved.output / (resolved.name or "")
        same = folder, config.to_yaml(member.asked), config.to_yaml(resolved)
        yield finished(*same) if resolved.resume == "auto" else None


def _tried(member: Member) -> Optional[Mapping[str, float]]:
    """Its metrics; None, and it is told, if it failed. Processes of torchrun end together, and with them the sweep."""
    try:
        return ended(launch(member.asked, name=member.name, strict=member.strict))
    except ConfigError as error:
        if Place.from_environment():
            raise
        print("error: this run is not started:", *error.problems, sep="\n  ", file=sys.stderr)
    except RunStoppedError as error:
        if Place.from_environment():
            raise
        print(f"error: this run failed: {error}", file=sys.stderr)
    except Exception:  # shown whole, as that of a single run
        if Place.from_environment():
            raise
        traceback.print_exc()
    return None

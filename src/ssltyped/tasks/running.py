"""Running a task: what it resolves to, its folder, its ranks, and how it ended."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Optional, cast

from typing_extensions import TypeIs

from ssltyped import config, distributed
from ssltyped.config import ConfigError
from ssltyped.config.resolve import Resolution, resolve
from ssltyped.data.known import Sources
from ssltyped.engine.folder import write_result
from ssltyped.engine.in_turn import in_turn
from ssltyped.engine.lock import FILE, locked
from ssltyped.engine.names import name_faults
from ssltyped.engine.parallel import Distributed, DistributedConf, Place, device_for, process_group, say
from ssltyped.engine.places import defined_in_main, misfit
from ssltyped.engine.ranks import run_ranks, told
from ssltyped.model.files import write_text
from ssltyped.types import Problem, Task

FREE_FIELDS = ("output", "name", "distributed")
"""Changing these changes where and how fast a task runs, not what it gives."""


@dataclasses.dataclass(frozen=True)
class TaskRun:
    """What a launched task gave: where it wrote, and what it measured."""

    folder: Path
    metrics: dict[str, float]


def is_task(recipe: object) -> TypeIs[Task]:
    """Whether a config is that of a task."""
    return config.is_config(recipe) and issubclass(config.part_of(recipe).kind, Task)


def resolve_task(asked: Task, name: str = "run", *, strict: bool = False) -> Resolution[Task]:
    """A task with all inferred; `name` is that of the recipe. Raises `ConfigError`, if `strict` for warnings."""
    named = asked if asked.name is not None else config.replaced(asked, {"name": name})
    if wrong := [Problem("name", fault) for fault in name_faults(named.name)]:
        raise ConfigError(wrong)
    found = resolve(named, lambda current: cast("type[Task]", config.part_of(current).kind).facts(current))
    if strict:
        found.refuse_warnings()
    return found


def ranks_of(task: Task) -> Distributed:
    """The processes that a task, or the config of one, runs in."""
    wanted: Optional[Distributed] = getattr(task, "distributed", None)
    return DistributedConf() if wanted is None else wanted


def task_hindrances(resolved: Task) -> list[Problem]:
    """Why a task cannot start here although it can be planned; empty if it can."""
    wanted = ranks_of(resolved)
    several = wanted.num_procs * wanted.nodes > 1
    workers = [path for path, part in config.walk(resolved) if getattr(part, "num_workers", 0)]
    below = [""] if several else [f"{path}." for path in workers]
    return misfit(wanted, Place.from_environment()) or list(defined_in_main(resolved, below))


def plan_task(asked: Task, name: str, *, strict: bool = False) -> Iterator[str]:
    """What a task would do, and why, a line each. Raises `ConfigError` for all that can be known to be wrong before."""
    resolution = resolve_task(asked, name, strict=strict)
    resolved = resolution.config
    yield from config.build(resolved).plan()
    yield from resolution.lines()
    yield from ("", f"written to {_free_folder(resolved)}")
    yield "  asked.yaml, resolved.yaml, inferences.json; result.json at the end"
    if wrong := misfit(ranks_of(resolved), Place.from_environment()):
        yield from ("", "not to be started here as it is:", *(f"  {problem}" for problem in wrong))


def run_task(asked: Task, name: str, *, strict: bool = False) -> TaskRun:
    """Run a task in this process, in several that it starts, or in those that torchrun has started.

    Its folder is the first of NAME, NAME-2, ... that is free, or that this very task has begun: then it goes on.
    Raises `ConfigError` before anything is written if it cannot run.
    """
    sources = Sources()
    with in_turn(Place.from_environment(), sources.findings, sources.take):
        resolution = resolve_task(asked, name, strict=strict)
    return _run(asked, resolution)


def done_before(asked: Task, name: str) -> Optional[Mapping[str, float]]:
    """What this very task has measured in its folder; None if it has not come to its end. Raises `ConfigError`."""
    resolved = resolve_task(asked, name).config
    if wrong := task_hindrances(resolved):
        raise ConfigError(wrong)
    result = _free_folder(resolved) / "result.json"
    return json.loads(result.read_text())["metrics"] if result.is_file() else None


def _run(asked: Task, resolution: Resolution[Task]) -> TaskRun:
    resolved, place = resolution.config, Place.from_environment()
    if wrong := task_hindrances(resolved):
        raise ConfigError(wrong)
    wanted = ranks_of(resolved)
    enter = functools.partial(_prepared, asked, resolution)
    if place is None and wanted.num_procs > 1:
        return _start_processes(asked, resolved, enter)
    place = place or Place(rank=0, world_size=1, local_rank=0, local_world_size=1)
    device = device_for(wanted.device, place.local_rank)
    with process_group(place, device, wanted.timeout_s), told(), ExitStack() as held:
        for warning in resolution.warnings:
            say(f"warning: {warning}")
        folder = distributed.first_rank_does(lambda: held.enter_context(enter()), ConfigError)
        metrics = dict(config.build(resolved).run(folder))
        if distributed.is_main():
            write_result(folder, "finished", metrics, {})
        distributed.barrier()
    return TaskRun(folder, metrics)


def _start_processes(asked: Task, resolved: Task, enter: Callable[[], AbstractContextManager[Path]]) -> TaskRun:
    with enter() as folder:
        named = config.replaced(asked, {"name": str(folder.relative_to(resolved.output))})
        body = functools.partial(_task_rank, found=Sources().findings())
        run_ranks(body, config.to_yaml(named), ranks_of(resolved).num_procs)
        return TaskRun(folder, json.loads((folder / "result.json").read_text())["metrics"])


def _task_rank(asked: str, found: str) -> None:
    """The body of one of our processes; `found`: what is known of the images."""
    Sources().take(found)
    task: Task = config.from_yaml(asked)
    _run(task, resolve_task(task))


@contextmanager
def _prepared(asked: Task, resolution: Resolution[Task]) -> Iterator[Path]:
    """The folder of a task, which belongs to this process for the time of the block, with what was asked for in it."""
    folder = _free_folder(resolution.config)
    with locked(folder):
        (folder / "result.json").unlink(missing_ok=True)  # of an earlier start: this one has not ended yet
        texts = {"asked.yaml": config.to_yaml(asked), "resolved.yaml": config.to_yaml(resolution.config)}
        for file, text in (*texts.items(), ("inferences.json", resolution.to_json())):
            write_text(folder / file, text)
        yield folder


def _free_folder(resolved: Task) -> Path:
    """The first of NAME, NAME-2, ... below output that holds nothing yet, or this very task."""
    first = resolved.output / (resolved.name or "")
    names = itertools.chain([first.name], (f"{first.name}-{number}" for number in itertools.count(2)))
    return next(folder for name in names if _holds_nothing_else(folder := first.with_name(name), resolved))


def _holds_nothing_else(folder: Path, resolved: Task) -> bool:
    if not (folder / "resolved.yaml").is_file():
        return not folder.exists() or {FILE}.issuperset(file.name for file in folder.iterdir())
    try:
        before = config.from_yaml((folder / "resolved.yaml").read_text())
    except ConfigError:  # of another version of ours
        return False
    return is_task(before) and _identity(before) == _identity(resolved)


def _identity(resolved: Task) -> str:
    """What makes a task the task that it is."""
    free: dict[str, object] = {"output": Path(), "name": None, "distributed": DistributedConf()}
    return config.to_yaml(config.replaced(resolved, {key: free[key] for key in free if hasattr(resolved, key)}))

"""The folder of a run: what was asked for, what it resolved to, and where to go on from.

runs/simclr/asked.yaml  resolved.yaml  inferences.json      written before the first step
           metrics.jsonl  tensorboard/  checkpoints/        while it trains
           weights.pt  result.json                          at the end
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Optional

from ssltyped import config
from ssltyped.config import ConfigError, join
from ssltyped.engine.checkpoint import CheckpointStore, damage
from ssltyped.engine.lock import locked
from ssltyped.model.files import write_text
from ssltyped.types import Problem

# Changing these changes where and how fast a run trains, not what it computes. Images a rank and ranks may change
# together: what counts is the global batch.
_FREE_FIELDS = ("resume", "output", "name", "callbacks", "checkpoints", "log_every", "distributed", "product")
_FREE_LEAVES = ("num_workers", "batch_size")
_INFERRED_THAT_COUNT = ("global_batch_size", "steps", "data.train.num_images")


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run writes, and the checkpoint that it goes on from (None: from the beginning)."""

    folder: Path
    resume: Optional[Path]


@contextmanager
def prepare(
    *, output: Path, name: str, resume: str, asked: str, resolved: str, inferences: str, lacks: Sequence[Problem] = ()
) -> Iterator[Start]:
    """Choose folder and checkpoint and write down the config; nothing of an earlier run is overwritten.

    For the time of the block the folder belongs to this process. Raises `ConfigError` when it is another's, when it
    holds another experiment, when a checkpoint to resume is not valid, or, for a run from the beginning, with what it
    `lacks`.
    """
    with ExitStack() as held:
        try:
            folder = _owned(output / name, held, fresh=resume == "never")
        except OSError as error:
            raise ConfigError([Problem("output", f"{output / name} cannot be made: {error.strerror}")]) from error
        checkpoint = _checkpoint(folder, resume, asked, resolved)
        if lacks and checkpoint is None:
            raise ConfigError(list(lacks))
        (folder / "result.json").unlink(missing_ok=True)  # of an earlier start: this one has not ended yet
        for file, text in (("asked.yaml", asked), ("resolved.yaml", resolved), ("inferences.json", inferences)):
            write_text(folder / file, text)
        yield Start(folder=folder, resume=checkpoint)


def _checkpoint(folder: Path, resume: str, asked: str, resolved: str) -> Optional[Path]:
    if resume == "never":
        return None
    if resume == "auto":
        _refuse_another(folder, asked, resolved)
        return CheckpointStore(folder / "checkpoints").newest()
    return _asked_checkpoint(Path(resume).expanduser())


def write_result(folder: Path, outcome: str, metrics: Mapping[str, float], first: Mapping[str, float]) -> None:
    result = {"outcome": outcome, "metrics": dict(metrics), "first": dict(first)}
    write_text(folder / "result.json", json.dumps(result, indent=2) + "\n")


def finished(folder: Path, asked: str, resolved: str) -> Optional[Mapping[str, float]]:
    """The metrics of the run in a folder if it has come to its end; None if it has not, or there is none.

    Raises `ConfigError` when the folder holds another experiment.
    """
    _refuse_another(folder, asked, resolved)
    if not (folder / "weights.pt").exists() or not (folder / "result.json").exists():
        return None
    result = json.loads((folder / "result.json").read_text())
    return result["metrics"] if result["outcome"] == "finished" else None


def _owned(folder: Path, held: ExitStack, *, fresh: bool) -> Path:
    """The folder, locked; a fresh one is `folder` if it is not there yet, else `folder-2`, `folder-3`, ..."""
    names = itertools.chain([folder.name], (f"{folder.name}-{number}" for number in itertools.count(2)))
    for candidate in (folder.with_name(name) for name in names):
        with suppress(*[FileExistsError] * fresh):
            held.enter_context(locked(candidate, fresh=fresh))
            return candidate
    raise AssertionError("there is always another number")


def _asked_checkpoint(path: Path) -> Path:
    """The checkpoint at `path`: a checkpoint folder, or the newest one of a run's folder."""
    if (path / "checksums.json").exists():
        if wrong := damage(path):
            raise ConfigError([Problem("resume", f"the checkpoint {path} is damaged: {wrong}")])
        return path
    found = CheckpointStore(path / "checkpoints").newest() if path.is_dir() else None
    if found is None:
        allowed = "auto, never, a checkpoint or a run's folder with one"
        raise ConfigError([Problem("resume", f"got {str(path)!r}: {allowed}")])
    return found


def _refuse_another(folder: Path, asked: str, resolved: str) -> None:
    """A run goes on only as what it was: a changed config in the same folder would mix two experiments."""
    before = (folder / "asked.yaml", folder / "resolved.yaml")
    if not all(file.exists() for file in before) or not any((folder / "checkpoints").glob("step_*")):
        return
    old, new = _identity(*(file.read_text() for file in before)), _identity(asked, resolved)
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if changed:
        shown = [Problem(key, f"was {old.get(key)!r}, is now {new.get(key)!r}") for key in changed[:20]]
        advice = f"name=NEW for a new run, or resume={folder} to go on changed"
        raise ConfigError([Problem("resume", f"{folder} holds a run with another config; {advice}"), *shown])


def _identity(asked: str, resolved: str) -> dict[str, object]:
    """What makes a run the run that it is."""
    wanted = _leaves(config.to_tree(config.from_yaml(asked)))
    inferred = dict(_leaves(config.to_tree(config.from_yaml(resolved))))
    counts = {key: inferred.get(key) for key in _INFERRED_THAT_COUNT}
    for key, value in wanted:
        if key.partition(".")[0] not in _FREE_FIELDS and key.rpartition(".")[2] not in _FREE_LEAVES:
            counts.setdefault(key, value)
    return counts


def _leaves(tree: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(tree, dict):
        for key, item in tree.items():
            yield from _leaves(item, join(path, key))
    elif isinstance(tree, list | tuple):
        for index, item in enumerate(tree):
            yield from _leaves(item, join(path, index))
    else:
        yield path, tree

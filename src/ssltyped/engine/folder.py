"""The folder of a run: what was asked for, what it resolved to, and where to go on from.

runs/simclr/asked.yaml  resolved.yaml  inferences.json      written before the first step
           metrics.jsonl  tensorboard/  checkpoints/        while it trains
           weights.pt  student.pt  result.json              at the end (student.pt where the other is a teacher)
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Optional

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.engine.checkpoint import CheckpointStore, damage
from ssltyped.engine.lock import locked
from ssltyped.engine.parallel import say
from ssltyped.engine.position import Position
from ssltyped.model.batch_norm import has_batch_norm
from ssltyped.model.files import write_text
from ssltyped.types import Problem

# Changing these changes where and how fast a run trains, not what it computes. Images a rank and ranks may change
# together: what counts is the global batch, and the images that share statistics.
_FREE_FIELDS = ("resume", "output", "name", "callbacks", "checkpoints", "log_every", "distributed", "product")
_IMAGES_A_RANK = "data.train.batch_size"
_FREE_PATHS = (_IMAGES_A_RANK, "data.val.batch_size", "data.train.num_workers", "data.val.num_workers")
_INFERRED_THAT_COUNT = ("global_batch_size", "steps", "data.train.num_images")
_SHARED = "images that share BatchNorm statistics"
_SAID = (_IMAGES_A_RANK, "distributed.nodes", "distributed.num_procs", "distributed.device")
"""What may change, and is said: floating-point sums come in another order."""


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run writes, and the checkpoint that it goes on from (None: from the beginning)."""

    folder: Path
    resume: Optional[Path]


@contextmanager
def prepare(
    *,
    output: Path,
    name: str,
    resume: str,
    asked: str,
    resolved: str,
    inferences: str,
    end: Position,
    lacks: Sequence[Problem] = (),
) -> Iterator[Start]:
    """Choose folder and checkpoint and write down the config; nothing of an earlier run is overwritten.

    For the time of the block the folder belongs to this process. What changed since the checkpoint is said. Raises
    `ConfigError` when the folder is another's, when it holds another experiment, when a checkpoint to resume is not
    valid or past the `end` of this run, or, for a run from the beginning, with what it `lacks`.
    """
    with ExitStack() as held:
        try:
            folder = _owned(output / name, held, fresh=resume == "never")
        except OSError as error:
            raise ConfigError([Problem("output", f"{output / name} cannot be made: {error.strerror}")]) from error
        checkpoint = _checkpoint(folder, resume, asked, resolved)
        if lacks and checkpoint is None:
            raise ConfigError(list(lacks))
        if checkpoint is not None:
            _refuse_past_the_end(checkpoint, end)
            for change in _said_changes(checkpoint.parents[1], asked, resolved):
                say(f"goes on changed: {change}")
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
    return _asked_checkpoint(Path(resume).expanduser().resolve())


def write_result(folder: Path, outcome: str, metrics: Mapping[str, float], first: Mapping[str, float]) -> None:
    result = {"outcome": outcome, "metrics": dict(metrics), "first": dict(first)}
    write_text(folder / "result.json", json.dumps(result, indent=2) + "\n")


def finished(folder: Path, asked: str, resolved: str) -> Optional[Mapping[str, float]]:
    """The metrics of the run in a folder if it has come to its end; None if it has not, or there is none.

    Raises `ConfigError` when the folder holds another experiment.
    """
    _refuse_another(folder, asked, resolved)
    if not all((folder / name).exists() for name in ("weights.pt", "result.json", "asked.yaml")):
        return None
    free = {"resume": "auto", "output": Path()}  # what it is called by, and not what it measures
    before, now = (
        config.replaced(config.from_yaml(text), free) for text in ((folder / "asked.yaml").read_text(), asked)
    )
    if config.to_yaml(before) != config.to_yaml(now):
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


def _refuse_past_the_end(checkpoint: Path, end: Position) -> None:
    saved = Position.of_checkpoint(checkpoint, end)
    if (here := saved.carried_to(end)).step <= end.step:
        return
    counted = "" if saved.is_counted_as(end) else f", which is step {here.step} of {end.global_batch_size} images each"
    message = f"{checkpoint} is at step {saved.step}{counted}, and this run ends at step {end.step}"
    raise ConfigError([Problem("resume", f"{message}: give more epochs (or steps), or an earlier checkpoint")])


def _refuse_another(folder: Path, asked: str, resolved: str) -> None:
    """A run goes on only as what it was: a changed config in the same folder would mix two experiments."""
    if any((folder / "checkpoints").glob("step_*")) and (changed := _changes(folder, asked, resolved)):
        advice = f"name=NEW for a new run, or resume={folder} to go on changed"
        raise ConfigError([Problem("resume", f"{folder} holds a run with another config; {advice}"), *changed])


def _changes(folder: Path, asked: str, resolved: str) -> list[Problem]:
    """What counts and is not as in the run that the folder holds; the first 20."""
    before = (folder / "asked.yaml", folder / "resolved.yaml")
    if not all(file.exists() for file in before):
        return []
    changed = _differences(_identity(*(file.read_text() for file in before)), _identity(asked, resolved))
    whole = config.from_yaml(resolved) if any(one.path == _SHARED for one in changed) else None
    without = whole is not None and not has_batch_norm([whole.trunk, *whole.heads.values(), whole.loss])
    return [one for one in changed if not (without and one.path == _SHARED)]


def _differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[Problem]:
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return [Problem(key, f"was {old.get(key)!r}, is now {new.get(key)!r}") for key in changed[:20]]


def _said_changes(folder: Path, asked: str, resolved: str) -> list[Problem]:
    """What is not as in the run that the folder holds, also what is another result but for rounding."""
    if not (before := folder / "resolved.yaml").exists():
        return []
    old, new = (dict(config.leaves(config.to_tree(config.from_yaml(text)))) for text in (before.read_text(), resolved))
    free = _differences({key: old.get(key) for key in _SAID}, {key: new.get(key) for key in _SAID})
    return [*free, *_changes(folder, asked, resolved)]


def _identity(asked: str, resolved: str) -> dict[str, object]:
    """What makes a run the run that it is."""
    inferred = dict(config.leaves(config.to_tree(config.from_yaml(resolved))))
    counts = {key: inferred.get(key) for key in _INFERRED_THAT_COUNT}
    images, group = inferred.get(_IMAGES_A_RANK), inferred.get("distributed.sync_bn_group")
    counts[_SHARED] = images * group if isinstance(images, int) and isinstance(group, int) else None
    for key, value in config.leaves(config.to_tree(config.from_yaml(asked))):
        if key.partition(".")[0] not in _FREE_FIELDS and key not in _FREE_PATHS:
            counts.setdefault(key, value)
    return counts

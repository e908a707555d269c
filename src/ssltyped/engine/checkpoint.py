"""Checkpoints: asynchronous, atomic, checksummed; the newest valid one is resumed.

    run/checkpoints/step_00000040/state.pt       all state, by rank 0
                                  rank_1.pt      what differs on rank 1 (buffers, callbacks), one file a rank
                                  checksums.json sha256 of each file

A checkpoint is written beside its place, as `step_00000040.tmp`, and appears by one rename after every rank's
file and the checksums are on disk. The files are `torch.save` files that `torch.load(weights_only=True)` reads:
torch.distributed.checkpoint would execute pickle on loading (its metadata is one).
"""

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Optional

import torch
from annotated_types import Ge, Gt

from ssltyped import distributed
from ssltyped.config import ConfigError, config_for
from ssltyped.config.hints import brief
from ssltyped.engine.parallel import tell
from ssltyped.model.files import sync, write_text
from ssltyped.types import Component, Problem

_WAIT_FOR_RANKS_S = 600.0

STATE = {"module": Mapping, "optimizer": Mapping, "step": int, "scaler": Mapping, "metrics": Mapping, "first": Mapping}
"""What rank 0's state has at least, and of which kind."""


class Checkpoints(Component):
    """When state is saved, and what is kept.

    Args:
        every_epochs: save after every so many epochs (and at the end, and when interrupted).
        every_steps: save after every so many steps too; null: only by epochs.
        keep: how many of the newest checkpoints stay.
        best: name of the metric whose best checkpoint stays as well, for example knn_top1; null: none.
    """

    def __init__(
        self,
        *,
        every_epochs: Annotated[int, Gt(0)] = 1,
        every_steps: Optional[Annotated[int, Gt(0)]] = None,
        keep: Annotated[int, Ge(1)] = 2,
        best: Optional[str] = None,
    ) -> None:
        self.every_epochs, self.every_steps, self.keep, self.best = every_epochs, every_steps, keep, best

    def due(self, step: int, steps_per_epoch: int, steps: int) -> bool:
        """Whether state is to be saved after `step` steps."""
        by_epoch = step % (steps_per_epoch * self.every_epochs) == 0
        by_step = self.every_steps is not None and step % self.every_steps == 0
        return by_epoch or by_step or step == steps


CheckpointsConf = config_for(Checkpoints)


class CheckpointStore:
    """The checkpoints of one run on disk. Every rank has one; collective calls are marked so."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        self._writing: Optional[threading.Thread] = None
        self._failure: Optional[BaseException] = None
        self._given_up = threading.Event()

    @property
    def failed(self) -> bool:
        """Whether this rank could not write what it was given: all ranks are to `finish`, which raises."""
        return self._failure is not None

    def owns(self, checkpoint: Path) -> bool:
        return checkpoint.resolve().parent == self.folder.resolve()

    def clean(self, step: int) -> None:
        """Make room for a run that starts after `step` steps (collective, before the first save).

        What a killed run left half-written is removed. Checkpoints of later steps are damaged, or of a run that
        this one replaces: they are put aside as `step_00000040.aside`, so that this run never goes on from them.
        """
        if distributed.is_main():
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob("*.tmp"):
                shutil.rmtree(leftover)
            for later in [path for path in self._finished() if path.name > _name(step)]:
                _put_aside(later)
        distributed.barrier()

    def save(self, step: int, state: Mapping[str, object], *, best: bool = False, prune: bool = True) -> None:
        """Start to write `state`, which must not change any more; the previous write is awaited first (collective).

        On rank 0 `state` is everything, on other ranks only what differs there. Without `prune` all others stay.
        """
        self.finish()
        arguments = (step, state, best, prune)
        self._writing = threading.Thread(target=self._write_guarded, args=arguments, name="checkpoint")
        self._writing.start()

    def finish(self) -> None:
        """Until every rank has written what it was given (collective). Raises OSError on all ranks if one could not."""
        failed = False
        while not failed:
            alive = self._writing is not None and self._writing.is_alive()  # in this order: it fails, then it ends
            mine = torch.tensor([int(alive), int(self.failed)])
            writing, failed = map(bool, distributed.all_reduce_max(mine).tolist())
            if not writing:
                break
            if self._writing is not None:
                self._writing.join(0.05)
        if failed:
            self._given_up.set()  # rank 0 does not wait for a file that never comes
        self.wait()
        if failed:
            raise OSError(f"another rank could not write its part of a checkpoint to {self.folder}")

    def wait(self) -> None:
        """Until nothing is being written. Raises what a write raised: a run does not go on without checkpoints."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise OSError(f"a checkpoint could not be written to {self.folder}: {failure}") from failure

    def newest(self) -> Optional[Path]:
        """The newest checkpoint whose checksums hold; a damaged one is passed over with a message."""
        for candidate in self._finished():
            if damaged := damage(candidate):
                tell(f"checkpoint {candidate} is damaged and passed over: {damaged}")
            else:
                return candidate
        return None

    def _finished(self) -> list[Path]:
        found = (path for path in self.folder.glob("step_*") if not path.suffix and path.is_dir())
        return sorted(found, key=lambda path: path.name, reverse=True)

    def _write_guarded(self, step: int, state: Mapping[str, object], best: bool, prune: bool) -> None:
        try:
            self._write(step, state, best, prune)
        except BaseException as error:  # handed to the training thread by wait()
            self._failure = error

    def _write(self, step: int, state: Mapping[str, object], best: bool, prune: bool) -> None:
        final = self.folder / _name(step)
        partial = final.with_name(final.name + ".tmp")
        partial.mkdir(parents=True, exist_ok=True)
        rank = distributed.rank()
        name = "state.pt" if rank == 0 else f"rank_{rank}.pt"
        torch.save(dict(state), partial / name)
        sync(partial / name)
        write_text(partial / f"{name}.sha256", _digest(partial / name))
        if rank == 0:
            _publish(partial, final, distributed.world_size(), self._given_up)
            if best:
                write_text(self.folder / "best.txt", final.name)
            if prune:
                self._prune()

    def _prune(self) -> None:
        best = self.folder / "best.txt"
        kept = {best.read_text().strip()} if best.exists() else set()
        for old in self._finished()[self.keep :]:
            if old.name not in kept:
                shutil.rmtree(old)


def load(path: Path, map_location: torch.device) -> dict[str, object]:
    """The state that this rank goes on with: rank 0's, and this rank's own buffers if it had any.

    No pickle is executed. With another number of ranks than it was saved by, all ranks take rank 0's buffers. Raises
    `ConfigError` for a file that torch cannot read so.
    """
    state = read(path / "state.pt", map_location)
    own = path / f"rank_{distributed.rank()}.pt"
    if own.exists() and state.get("world_size") == distributed.world_size():
        state |= read(own, map_location)
    return state


def complete(state: dict[str, object], path: Path) -> dict[str, object]:
    """The state, if it has all of a run's. Raises `ConfigError` for a file that something else has written."""
    if wrong := [name for name, kind in STATE.items() if not isinstance(state.get(name), kind)]:
        message = f"{path} is no checkpoint of a run: {', '.join(wrong)} is not there, or is something else"
        raise ConfigError([Problem("resume", message)])
    return state


def read(file: Path, map_location: torch.device, *, mmap: bool = False) -> dict[str, object]:
    """What a file holds; with `mmap` tensors are not read. Raises `ConfigError` for one that torch cannot read so."""
    try:
        state = torch.load(file, map_location=map_location, weights_only=True, mmap=mmap)
    except Exception as error:  # torch has many ways to say that a file is not its own, or that it holds a pickle
        reason = brief(str(error).partition(". ")[0] or type(error).__name__)
        message = f"{file} cannot be read, and no pickle is executed: {reason}; resume another, or remove {file.parent}"
        raise ConfigError([Problem("resume", message)]) from error
    return state if isinstance(state, dict) else {}


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint folder; empty if its files are as they were written."""
    listing = checkpoint / "checksums.json"
    if not listing.exists():
        return "it has no checksums.json"
    try:
        checksums = json.loads(listing.read_bytes())
    except ValueError:  # not JSON, or not even text
        checksums = None
    if not isinstance(checksums, dict) or "state.pt" not in checksums:
        return "checksums.json cannot be read"
    for name, digest in checksums.items():
        if not (checkpoint / name).exists():
            return f"{name} is missing"
        if _digest(checkpoint / name) != digest:
            return f"{name} is not what was written (sha256 differs)"
    return ""


def _name(step: int) -> str:
    return f"step_{step:08d}"


def _publish(partial: Path, final: Path, world_size: int, given_up: threading.Event) -> None:
    """Wait for every rank's file, write the checksums, and let the checkpoint appear. Raises OSError if one lacks."""
    names = ["state.pt", *(f"rank_{rank}.pt" for rank in range(1, world_size))]
    deadline = time.monotonic() + _WAIT_FOR_RANKS_S
    while missing := [name for name in names if not (partial / f"{name}.sha256").exists()]:
        if given_up.wait(0.02) or time.monotonic() > deadline:
            raise TimeoutError(f"{', '.join(missing)} did not appear in {partial}")
    checksums = {name: (partial / f"{name}.sha256").read_text() for name in names}
    for name in names:
        (partial / f"{name}.sha256").unlink()
    write_text(partial / "checksums.json", json.dumps(checksums, indent=2))
    if final.exists():  # of a run that counts its steps in another batch, or that goes on from elsewhere
        _put_aside(final)
    partial.rename(final)
    sync(final.parent)


def _put_aside(checkpoint: Path) -> None:
    aside = checkpoint.with_suffix(".aside")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_cpu(state: object) -> object:
    """A copy of a nested state that training does not touch any more."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: to_cpu(item) for key, item in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(to_cpu(item) for item in state)
    return state

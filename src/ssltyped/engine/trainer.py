"""The training loop: reads batches, steps, logs, evaluates, saves; knows a method only as a `Loss`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Optional

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ssltyped import distributed
from ssltyped.config import ConfigError
from ssltyped.config.hints import brief, nearest
from ssltyped.data.pipeline import Data, TrainPipeline, Unreadable
from ssltyped.data.sampler import random_of
from ssltyped.engine.checkpoint import Checkpoints, CheckpointStore, load, to_cpu
from ssltyped.engine.interrupt import Interrupt
from ssltyped.engine.parallel import Rates, say, seed_step
from ssltyped.engine.step import Step
from ssltyped.model.model import SSLModel
from ssltyped.optimizers.zero import full_state, own_state
from ssltyped.types import Batch, Callback, Loss, Problem, Scheduler, StepOutput, Subset, Target, Update

UNKNOWN = -1
"""The label of an image that has none."""

_COLLATION = 2**31
"""The stream of random numbers that collators draw from: not one of a view's."""


class Outcome(Enum):
    FINISHED = "finished"
    INTERRUPTED = "interrupted"


class Trainer:
    """Trains for `steps` optimizer steps from the newest checkpoint or from nothing; the `TrainState` of callbacks.

    Killed at any moment and started again, it ends with bitwise the same weights: a step depends on the state
    that is saved, on (seed, epoch, image, view) and on (seed, step, rank), and on nothing else.
    """

    def __init__(
        self,
        *,
        step: Step,
        data: Data,
        schedule: Scheduler,
        schedules: Mapping[str, Scheduler] = MappingProxyType({}),
        checkpoints: Checkpoints,
        callbacks: Sequence[Callback],
        folder: Path,
        steps: int,
        steps_per_epoch: int,
        accumulation: int,
        seed: int,
        log_every: int,
    ) -> None:
        self.step, self.steps, self.steps_per_epoch, self.folder = 0, steps, steps_per_epoch, folder
        self.metrics: dict[str, float] = {}
        self._logged_at: dict[str, int] = {}
        self.first: dict[str, float] = {}
        self._step, self._data, self._schedule, self._checkpoints = step, data, schedule, checkpoints
        self._accumulation, self._seed, self._log_every = accumulation, seed, log_every
        self._schedules = schedules
        self._callbacks = [c for c in callbacks if c.every_rank or distributed.is_main()]
        self._store = CheckpointStore(folder / "checkpoints", keep=checkpoints.keep)
        self._best: Optional[float] = None
        self._saved = -1
        self._stop = Interrupt()
        self._unreadable: set[str] = set()

    @property
    def model(self) -> SSLModel:
        model = self._step.module.model
        assert isinstance(model, SSLModel)
        return model

    @property
    def loss(self) -> Loss:
        return self._step.module.loss

    @property
    def device(self) -> torch.device:
        return self._step.device

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, from 0."""
        return self.step // self.steps_per_epoch

    def fit(self, resume: Optional[Path] = None) -> Outcome:
        """Train to the end, or until SIGTERM or Ctrl-C, after which everything is saved."""
        if resume is not None:
            self.restore(load(resume, torch.device("cpu")))
        self._store.clean(self.step)
        self.loss.on_train_start(self.model, self._one_pass)
        seconds, images = 0.0, 0
        with self._stop.listening(), self._pipeline(self.step) as batches, self._watched():
            while self.step < self.steps:
                started = time.perf_counter()
                if self.step % self.steps_per_epoch == 0:
                    self.loss.on_epoch_start(self.model, self.epoch)
                micro = [self._prepared(next(batches), part) for part in range(self._accumulation)]
                for callback in self._callbacks:
                    callback.on_step_start(self, micro[0])
                seed_step(self._seed, self.step, distributed.rank(), self.device)
                rates = self._rates()
                outputs = self._step(micro, rates, (self.step + 1) / self.steps, self._on_loss)
                self.step += 1
                images += sum(batch.index.shape[0] for batch in micro) * distributed.world_size()
                seconds += time.perf_counter() - started  # of reading and stepping: evaluations are not counted
                if self.step % self._log_every == 0 or self.step == self.steps:
                    self._log_step(outputs, rates, images / seconds)
                    seconds, images = 0.0, 0
                self._after_step()
                if self._stop.agreed() and self.step < self.steps:
                    self._save(wait=True)
                    return Outcome.INTERRUPTED
            self._stop.settle()
        return Outcome.FINISHED

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Callbacks see the start and, however it comes, the end; what is being saved then is saved first."""
        for callback in self._callbacks:
            callback.on_train_start(self)
        try:
            yield
        finally:
            try:
                self._store.wait()
            finally:
                for callback in self._callbacks:
                    callback.on_train_end(self)

    def forward(self, batch: Batch) -> StepOutput:
        """The loss of a normalised batch as the next step would compute it, without an update."""
        return self._step.forward(batch)

    def _rates(self) -> Rates:
        """What the schedules say for the next step."""
        others = {name: self._value(schedule) for name, schedule in self._schedules.items()}
        return Rates(self._value(self._schedule), others.pop("weight_decay", None), others)

    def _value(self, schedule: Scheduler) -> float:
        """A schedule's value at the progress in [0, 1) of the next step, or of its epoch's start."""
        by_epoch = schedule.update is Update.EPOCH
        return schedule((self.epoch * self.steps_per_epoch if by_epoch else self.step) / self.steps)

    def _on_loss(self, batch: Batch, output: StepOutput) -> None:
        for callback in self._callbacks:
            callback.on_loss(self, batch, output)

    def _after_step(self) -> None:
        for callback in self._callbacks:
            callback.on_step_end(self)
        if self.step % self.steps_per_epoch == 0 or self.step == self.steps:
            if self._unreadable:
                self.log({"unreadable_images": float(len(self._unreadable))})
            for callback in self._callbacks:
                callback.on_epoch_end(self)
        if self._checkpoints.due(self.step, self.steps_per_epoch, self.steps):
            self._save(wait=self.step == self.steps)

    def log(self, metrics: Mapping[str, float]) -> None:
        self.metrics.update(metrics)
        self._logged_at.update(dict.fromkeys(metrics, self.step))
        self.first = {**metrics, **self.first}
        for callback in self._callbacks:
            callback.on_metrics(self, metrics)

    def _log_step(self, outputs: Sequence[StepOutput], rates: Rates, images_per_s: float) -> None:
        """The last step's values, averaged over its batches and over the ranks."""
        logs = [{"loss": output.loss.detach(), **output.logs} for output in outputs]
        names = sorted(logs[0])
        values = torch.stack([torch.stack([entry[name].float() for entry in logs]).mean() for name in names])
        means = dict(zip(names, distributed.all_reduce_mean(values).tolist(), strict=True))
        self.log({**means, **rates.logs, "images_per_s": images_per_s})

    # --- data -----------------------------------------------------------------------------------------------

    def _pipeline(self, start_step: int) -> TrainPipeline:
        return TrainPipeline(
            split=self._data.train,
            seed=self._seed,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            accumulation=self._accumulation,
            start_step=start_step,
            pin_memory=self.device.type == "cuda",
            on_unreadable=self._report,
        )

    def _prepared(self, batch: Batch, part: int) -> Batch:
        random = random_of(self._seed, self.step * self._accumulation + part, distributed.rank(), _COLLATION)
        return self._data.prepare(batch.to(self.device), random)

    def _one_pass(self) -> Iterator[Batch]:
        """This rank's batches of the epoch that the next step belongs to, normalized, from its start."""
        with self._pipeline(self.epoch * self.steps_per_epoch) as batches:
            for _ in range(self.steps_per_epoch * self._accumulation):
                yield self._data.normalize(next(batches).to(self.device))

    def _report(self, records: Sequence[Unreadable]) -> None:
        """Name every unreadable image once, on the terminal and in `unreadable_rank<r>.jsonl`.

        In training it was replaced by another one, in an evaluation it is left out.
        """
        new = [record for record in records if record.name not in self._unreadable]
        self._unreadable.update(record.name for record in new)
        with (self.folder / f"unreadable_rank{distributed.rank()}.jsonl").open("a") as file:
            for record in new:
                print(f"unreadable image, not used: {record.name} ({record.reason})", flush=True)
                file.write(json.dumps({"path": record.name, "index": record.index, "reason": record.reason}) + "\n")

    def features(self, subset: Subset) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "N"]]:
        """Features of the frozen trunk in eval mode and labels, of all images, on every rank."""
        name, width = list(self.model.trunk.feature_dims.items())[-1]
        features, labels = [], []
        for image, label in self._evaluated(subset):
            with torch.no_grad():
                features.append(self.model.extract(image, name).float())
            labels.append(label)
        mine = torch.cat(features) if features else torch.zeros(0, width, device=self.device)
        known = torch.cat(labels) if labels else torch.zeros(0, dtype=torch.int64, device=self.device)
        return distributed.gather_uneven(mine), distributed.gather_uneven(known)

    def outputs(self, subset: Subset) -> Iterator[tuple[list[Tensor], Target]]:
        """The model's outputs in eval mode and the labels, of this rank's share of a subset."""
        for image, label in self._evaluated(subset):
            with torch.no_grad():
                found = [output.float() for output in self.model([image])]
            yield found, label

    def _evaluated(self, subset: Subset) -> Iterator[tuple[Tensor, Target]]:
        """This rank's images of a subset, normalized; the model is in eval mode until the last one."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            for batch in self._data.evaluate(subset, distributed.rank(), distributed.world_size(), self._report):
                ready = self._data.normalize(batch.to(self.device))
                unknown = torch.full_like(ready.index, UNKNOWN)
                yield ready.views[0], unknown if ready.label is None else ready.label
        finally:
            for module, training in modes:  # each its own: a method may keep parts of it in eval mode
                module.training = training

    # --- state ----------------------------------------------------------------------------------------------

    def capture(self) -> dict[str, object]:
        """All state, copied to the CPU. Nothing random is in it: see `seed_step`, and the sampler's key."""
        module = self._step.module
        return {
            "step": self.step,
            "world_size": distributed.world_size(),
            "module": to_cpu(module.state_dict()),
            "optimizer": to_cpu(own_state(self._step.optimizer)),
            "scaler": to_cpu(self._step.scaler.state_dict()),
            "best": self._best,
            "metrics": dict(self.metrics),
            "first": dict(self.first),
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Take over what `capture` gave."""
        module, optimizer, scaler = state["module"], state["optimizer"], state["scaler"]
        assert isinstance(module, dict)
        assert isinstance(optimizer, dict)
        assert isinstance(scaler, dict)
        buffers = state.get("buffers", {})
        assert isinstance(buffers, dict)
        try:
            self._step.module.load_state_dict({**module, **buffers})
            _load_optimizer(self._step.optimizer, optimizer)
        except (RuntimeError, ValueError) as error:
            message = f"the checkpoint is of another model or optimizer: {brief(str(error))}"
            raise ConfigError([Problem("resume", message)]) from error
        self._step.scaler.load_state_dict(scaler)
        step, best, metrics, first = state["step"], state["best"], state["metrics"], state["first"]
        assert isinstance(step, int)
        assert isinstance(metrics, dict)
        assert isinstance(first, dict)
        self.step, self._saved, self.metrics, self.first = step, step, dict(metrics), dict(first)
        self._best = best if isinstance(best, float) else None

    def _save(self, *, wait: bool) -> None:
        """Save this step unless it is saved already (collective). The copy is made now, the writing goes on beside."""
        if self._saved != self.step:
            best = self._is_best()
            optimizer = full_state(self._step.optimizer)
            if distributed.is_main():
                state = {**self.capture(), "optimizer": to_cpu(optimizer)}
            else:
                once = tuple(f"loss.{name}" for name in self.loss.same_on_all_ranks)
                buffers = {name for name, _ in self._step.module.named_buffers() if not name.startswith(once)}
                module = self._step.module.state_dict()
                state = {"buffers": to_cpu({name: module[name] for name in module if name in buffers})}
            self._store.save(self.step, state, best=best)
            self._saved = self.step
        if wait:
            self._store.wait()

    def _is_best(self) -> bool:
        name = self._checkpoints.best
        if name is None:
            return False
        if self.step == self.steps and name not in self.metrics:
            say(f"checkpoints.best: no metric {name!r} was logged{nearest(name, list(self.metrics))}")
        if self._logged_at.get(name) != self.step:  # it is not of these weights
            return False
        value = self.metrics[name] * (-1.0 if name == "loss" else 1.0)
        if self._best is not None and value <= self._best:
            return False
        self._best = value
        return True


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, object]) -> None:
    """Take over moments and counts; weight decay and the like are the recipe's, which `resume=PATH` may change."""
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    if [set(own) for own in settings] != [set(group) - {"params"} for group in _groups(state)]:
        raise ValueError(f"its parameter groups are not those of {type(optimizer).__name__}")
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def _groups(state: Mapping[str, object]) -> list[dict[str, object]]:
    groups = state["param_groups"]
    assert isinstance(groups, list)
    return groups

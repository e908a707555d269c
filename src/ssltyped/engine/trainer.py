"""The training loop: reads batches, steps, logs, evaluates, saves; knows a method only as a `Loss`."""

import dataclasses
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
from ssltyped.data.pipeline import Data, TrainPipeline
from ssltyped.data.sampler import random_of
from ssltyped.engine.callbacks.names import named_callbacks
from ssltyped.engine.checkpoint import Checkpoints, CheckpointStore, complete, load, to_cpu
from ssltyped.engine.clock import Clock
from ssltyped.engine.evaluation import Evaluation
from ssltyped.engine.interrupt import Interrupt, Verdict, handled_by
from ssltyped.engine.parallel import Rates, say, seed_step
from ssltyped.engine.position import Position
from ssltyped.engine.settled import Remembered
from ssltyped.engine.step import Step
from ssltyped.engine.strategy import Product
from ssltyped.engine.unreadable import UnreadableImages
from ssltyped.model.model import SSLModel
from ssltyped.types import (
    Batch,
    Callback,
    Loss,
    Moment,
    Outputs,
    Problem,
    Scheduler,
    Share,
    StepOutput,
    Subset,
    Target,
    Update,
)

_COLLATION = 2**31
"""The stream of random numbers that collators draw from: not one of a view's."""


class Outcome(Enum):
    FINISHED = "finished"
    INTERRUPTED = "interrupted"


class Trainer:
    """Trains up to the position `end` from the newest checkpoint or from nothing; the `TrainState` of callbacks.

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
        end: Position,
        accumulation: int,
        seed: int,
        log_every: int,
        product: Product = Product.METHOD,
    ) -> None:
        self.step, self.steps, self.steps_per_epoch = 0, end.step, end.steps_per_epoch
        self._end, self.folder = end, folder
        self.metrics, self.first = dict[str, float](), dict[str, float]()
        self._logged_at: dict[str, int] = {}
        self._step, self._data, self._schedule, self._checkpoints = step, data, schedule, checkpoints
        self._accumulation, self._seed, self._log_every = accumulation, seed, log_every
        self._schedules, self._product = schedules, product
        self._callbacks = [c for c in callbacks if c.enabled and (c.every_rank or distributed.is_main())]
        self._store = CheckpointStore(folder / "checkpoints", keep=checkpoints.keep)
        self._best: Optional[float] = None
        self._saved, self._part, self._unreadable = -1, 0, UnreadableImages(folder)
        self._stop, self._clock, self._settled = Interrupt(), Clock(step.device), dict[str, Remembered]()
        self._kept: Mapping[str, Mapping[str, object]] = {}

    @property
    def student(self) -> SSLModel:
        """The model that is trained."""
        return self._step.module.student

    @property
    def model(self) -> SSLModel:
        """The one that the run is for: what is evaluated and saved."""
        return self._step.module.product(self._product)

    @property
    def product_name(self) -> str:
        """Which model that is: student or teacher."""
        return self._step.module.product_name(self._product)

    @property
    def loss(self) -> Loss:
        return self._step.module.loss

    @property
    def device(self) -> torch.device:
        return self._step.device

    @property
    def moment(self) -> Moment:
        """When the next step happens."""
        return Moment(self.step, self.steps, self.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, from 0."""
        return self.moment.epoch

    @property
    def position(self) -> Position:
        """How far the run is."""
        return dataclasses.replace(self._end, step=self.step)

    @property
    def images(self) -> int:
        """Images that were passed, each pass counted whole."""
        return self.position.images

    def fit(self, resume: Optional[Path] = None) -> Outcome:
        """Train to the end, or until SIGTERM or Ctrl-C, after which everything is saved."""
        if resume is not None:
            self.restore(complete(load(resume, torch.device("cpu")), resume))
            say(self.position.told(self.steps, resume))
            # Counted in other steps it is saved under its new number, before the old one goes; another run's, as ours.
            if self._saved != self.step or not self._store.owns(resume):
                self._store.save(self.step, self.capture(self._kept), prune=False)
                self._store.finish()
        self._store.clean(self.step)
        self.loss.on_train_start(self.student, self._one_pass)
        with handled_by(self._stop.note), self._pipeline(self.step) as batches, self._watched():
            while self.step < self.steps:
                self._clock.start()
                moment = self.moment
                if self.step % self.steps_per_epoch == 0:
                    self.loss.on_epoch_start(self.student, moment)
                micro = [self._prepared(next(batches), part) for part in range(self._accumulation)]
                with self._clock.paused():
                    for callback in self._callbacks:
                        callback.on_step_start(self, micro[0])
                self._seed_part(0)
                rates = self._rates()
                outputs = self._step(micro, rates, moment, self._on_loss)
                self.step += 1
                images = sum(batch.index.shape[0] for batch in micro) * distributed.world_size()
                logs = self.step % self._log_every == 0 or self.step == self.steps
                saves = self._checkpoints.due(self.step, self.steps_per_epoch, self.steps)
                self._clock.stop(images, wait=logs or saves or self.step % self.steps_per_epoch == 0)
                if logs:
                    self._log_step(outputs, rates)
                self._after_step()
                verdict = self._stop.agreed(failed=self._store.failed)
                if verdict is Verdict.FAILED:
                    self._store.finish()
                if verdict is Verdict.STOP and self.step < self.steps:
                    self._save(wait=True)
                    return Outcome.INTERRUPTED
            self._stop.settle()
        return Outcome.FINISHED

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Callbacks see the start and, however it comes, the end; what is being saved then is saved first."""
        kept = dict(self._kept)
        for name, callback in named_callbacks(self._callbacks):
            callback.on_train_start(self)
            if name in kept:
                callback.load_state_dict(kept.pop(name))
        for name in kept:
            say(f"what the checkpoint keeps of {name} is left out: there is no such callback now")
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
        return self._step.forward(batch, self.moment)

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
        self._seed_part(self._part + 1)  # what callbacks draw does not move the next batch

    def _seed_part(self, part: int) -> None:
        self._part = part
        seed_step(self._seed, self.step, distributed.rank(), self.device, part)

    def _after_step(self) -> None:
        for callback in self._callbacks:
            callback.on_step_end(self)
        if self.step % self.steps_per_epoch == 0 or self.step == self.steps:
            if counts := self._unreadable.counts:
                self.log(counts)
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

    def _log_step(self, outputs: Sequence[StepOutput], rates: Rates) -> None:
        """The last step's values, averaged over its batches and over the ranks."""
        logs = [{**output.logs, "loss": output.loss.detach()} for output in outputs]
        names = sorted(logs[0])
        values = torch.stack([torch.stack([entry[name].float() for entry in logs]).mean() for name in names])
        means = dict(zip(names, distributed.all_reduce_mean(values).tolist(), strict=True))
        self.log({**means, **rates.logs, "images_per_s": self._clock.images_per_s()})

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
            on_unreadable=self._unreadable,
        )

    def _prepared(self, batch: Batch, part: int) -> Batch:
        random = random_of(self._seed, self.step * self._accumulation + part, distributed.rank(), _COLLATION)
        return self._data.prepare(batch.to(self.device), random)

    def _one_pass(self) -> Iterator[Batch]:
        """This rank's batches of the epoch that the next step belongs to, normalized, from its start."""
        with self._pipeline(self.epoch * self.steps_per_epoch) as batches:
            for _ in range(self.steps_per_epoch * self._accumulation):
                yield self._data.normalize(next(batches).to(self.device))

    def features(self, subset: Subset, share: Share = Share.ALL) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "N"]]:
        return self._evaluation.features(subset, share)

    def outputs(self, subset: Subset) -> Iterator[tuple[Outputs, Target]]:
        return self._evaluation.outputs(subset)

    @property
    def _evaluation(self) -> Evaluation:
        precision, new = self._step.precision, None if self.step else self._one_pass
        return Evaluation(self.model, self._data, self.device, self._unreadable, new, precision, self._settled)

    # --- state ----------------------------------------------------------------------------------------------

    def capture(self, kept: Optional[Mapping[str, object]] = None) -> dict[str, object]:
        """The state that this rank writes, copied to the CPU (collective): all of it on rank 0, on the others what
        differs there. Nothing random is in it: see `seed_step`, and the sampler's key."""
        spread = self._step.strategy.capture(self._step.module, self._step.optimizer)
        if kept is None:  # but for callbacks that have not started
            named = named_callbacks(self._callbacks)
            kept = {name: state for name, one in named if (state := to_cpu(one.state_dict()))}
        return {**spread, "callbacks": kept, **(self._counts() if distributed.is_main() else {})}

    def snapshot(self) -> dict[str, object]:
        """All state on every rank, copied to the CPU (collective)."""
        spread = self._step.strategy.snapshot(self._step.module, self._step.optimizer)
        return {**spread, **self._counts(), "part": self._part}

    def _counts(self) -> dict[str, object]:
        return {
            "step": self.step,
            "position": self.position.to_state(),
            "world_size": distributed.world_size(),
            "scaler": to_cpu(self._step.scaler.state_dict()),
            "best": self._best,
            "metrics": dict(self.metrics),
            "first": dict(self.first),
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Take over what `capture` gave; what callbacks kept is handed to them when they have started."""
        try:
            self._step.strategy.restore(self._step.module, self._step.optimizer, state)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            message = f"the checkpoint is of another model or optimizer: {brief(str(error))}"
            raise ConfigError([Problem("resume", message)]) from error
        scaler, kept = state["scaler"], state.get("callbacks", {})
        best, metrics, first = state.get("best"), state["metrics"], state["first"]
        assert isinstance(scaler, dict)
        assert isinstance(kept, dict)
        assert isinstance(metrics, dict)
        assert isinstance(first, dict)
        if scaler:  # empty for a run that does not scale
            self._step.scaler.load_state_dict(scaler)
        saved = Position.of_state(state, self.position)
        self.step, self.metrics, self.first = saved.carried_to(self.position).step, dict(metrics), dict(first)
        self._saved = self.step if saved.is_counted_as(self.position) else -1
        self._best, self._kept = best if isinstance(best, float) else None, kept

    def _save(self, *, wait: bool) -> None:
        """Save this step unless it is saved already (collective). The copy is made now, the writing goes on beside."""
        if self._saved != self.step:
            best = self._is_best()
            self._store.save(self.step, self.capture(), best=best)
            self._saved = self.step
        if wait:
            self._store.finish()

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

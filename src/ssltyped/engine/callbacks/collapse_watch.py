"""Is the training still one? Figures of collapse, and of what usually causes it; what to do at their limits."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Optional, Self

import torch
from annotated_types import Gt
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.config import INFERRED, config_for
from ssltyped.engine.alarms import Action, Alarms, Watch
from ssltyped.engine.figures import ABOUT, Figure
from ssltyped.engine.movement import Movement, Refreshed
from ssltyped.engine.parallel import say
from ssltyped.engine.recent import Recent
from ssltyped.meters.representation import (
    agreement,
    alignment,
    information,
    perplexity,
    pooled,
    rankme,
    spread,
    uniformity,
)
from ssltyped.types import (
    QUIET,
    Batch,
    Callback,
    Facts,
    Inference,
    LossRange,
    Problem,
    RunStoppedError,
    StepOutput,
    TrainState,
)

WIDEST = 8192
"""Wider outputs, such as scores of many prototypes, are not looked at as embeddings."""
NARROW = 8
"""Narrower ones are scores of a few classes, whose rank says nothing."""
LOOKED_AT = 32
"""Of so many images of a batch the pixels are looked at."""
SAME = 1e-4
"""Views are equal if they differ by less than this share of the variance of the pixels."""
ROUNDING = 0.01
"""Of a bound of the loss (at least of 1): the accuracy of sums in low precision."""


class CollapseWatch(Callback):
    """Looks every few steps at the figures in `ssltyped.engine.figures.ABOUT`, each with its equation, paper and limit.

    They are of the features and head outputs that the step has computed anyway, of the last `images` images of all
    ranks (the embedding is a head's first output); of what the method hands on (`StepOutput.signals`); of the weights,
    and of the batch. Logs the newest of each at the end of an epoch as `watch_<figure>`. A figure that is beyond a
    limit in `patience` looks on end is said once, with what usually causes it; `watches` sets another limit, or `stop`:
    the run then ends before the step is saved, with exit code 1. Over W ranks all figures are those of one process,
    where whole batches fit into `images`. On a GPU a look waits for it.

    Raises:
        RunStoppedError: at the limit of a figure whose action is stop.

    Args:
        watches: policies of figures that differ from the usual one: a warning, at the figure's own limits.
        feature: the trunk's feature that is watched.
        every_steps: between two looks; they then cost less than 1 % of a step.
        images: so many of the last images, over all ranks.
        patience: so many looks on end beyond a limit are an alarm.
    """

    every_rank = True

    def __init__(
        self,
        *,
        watches: list[Watch] = [],  # noqa: B006  # never changed
        feature: str = INFERRED,
        every_steps: Annotated[int, Gt(0)] = 10,
        images: Annotated[int, Gt(1)] = 256,
        patience: Annotated[int, Gt(0)] = 3,
    ) -> None:
        self.watches, self.feature, self.every_steps = list(watches), feature, every_steps
        self.images, self.patience, self.reads = images, patience, (feature,)
        self._alarms, self._movement, self._refreshed = Alarms(watches, patience), Movement(), Refreshed()
        self._recent: Optional[Recent] = None
        self._device = torch.device("cpu")
        self._output: Optional[StepOutput] = None
        self._inputs: Mapping[Figure, float] = {}
        self._newest: dict[str, float] = {}
        self._largest = math.nan

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield Inference("feature", list(facts.feature_dims)[-1], "the trunk's last feature", default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        for figure, count in Counter(watch.figure for watch in config.watches).items():
            if count > 1:
                yield Problem("watches", f"has {figure.value} {count} times: one policy a figure")

    def on_train_start(self, state: TrainState) -> None:
        self._recent, self._device = Recent(self.images), state.device

    def on_step_start(self, state: TrainState, batch: Batch) -> None:
        if self._looks_after(state.step + 1) or state.step < self.every_steps:  # a rate that is too high shows at once
            self._movement.start(_module(state))
        if self._looks_after(state.step + 1):
            self._inputs = dict(of_images(batch.views))

    def on_loss(self, state: TrainState, batch: Batch, output: StepOutput) -> None:
        assert self._recent is not None
        images = len(batch.index)
        for name, rows in rows_of(output):
            if len(rows) % images == 0 and rows.shape[1] <= WIDEST:
                self._recent.add(name, self._recent.first_of(rows, images), images)
        for number, shares in enumerate(output.signals.targets):
            self._recent.add(f"targets.{number}", _summary(shares), images)
        self._refreshed.wrote([rows for _, rows in output.signals.memories])
        self._output = output

    def on_step_end(self, state: TrainState) -> None:
        output, self._output = self._output, None
        if output is None:
            return
        size, lags = self._movement.finish(_module(state), output.signals.teachers)
        self._largest = worst(Figure.UPDATE_SIZE, [self._largest, size])
        if not self._looks_after(state.step):
            return
        assert self._recent is not None
        found = dict(of_rows(self._recent.gathered()))
        own = self._of_this_rank(lags, output)
        told = torch.tensor(list(own.values()), dtype=torch.float64).to(state.device, torch.float32)
        found |= zip(own, distributed.all_reduce_mean(told).tolist(), strict=True)
        self._newest = {f"{QUIET}{figure.value}": value for figure, value in found.items() if not math.isnan(value)}
        expected = output.expected or LossRange()
        alarms = self._alarms.look(found, state.step, state.steps, expected.remedy)
        for alarm in alarms:
            if alarm.action is Action.WARN:
                say(f"warning: {alarm.text}")
        if stops := [alarm.text for alarm in alarms if alarm.action is Action.STOP]:
            raise RunStoppedError("\n".join(stops))

    def on_epoch_end(self, state: TrainState) -> None:
        if self._newest:
            state.log(self._newest)

    def _looks_after(self, step: int) -> bool:
        return step % self.every_steps == 0

    def _of_this_rank(self, lags: Sequence[float], output: StepOutput) -> dict[Figure, float]:
        """What ranks may differ in; the same figures on each (collective)."""
        found = {**self._inputs, Figure.UPDATE_SIZE: self._largest}
        self._largest = math.nan
        refreshed = self._refreshed.look([memory for memory, _ in output.signals.memories])
        offsets = [of_centre(*pair) for pair in output.signals.centred]
        several = {Figure.TEACHER_LAG: lags, Figure.QUEUE_REFRESH: refreshed, Figure.CENTRE_OFFSET: offsets}
        found |= {figure: worst(figure, values) for figure, values in several.items() if values}
        loss = float(distributed.all_reduce_mean(output.loss.detach()))  # nan on one rank is nan on all
        return found | dict(of_loss(loss, output.expected))

    def state_dict(self) -> Mapping[str, object]:
        parts = {"recent": self._recent, "refreshed": self._refreshed, "alarms": self._alarms}
        kept = {name: part.state_dict() for name, part in parts.items() if part is not None}
        return {**kept, "newest": dict(self._newest), "largest": self._largest}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        assert self._recent is not None
        recent, refreshed, alarms, newest = (state[name] for name in ("recent", "refreshed", "alarms", "newest"))
        assert isinstance(recent, dict)
        assert isinstance(refreshed, dict)
        assert isinstance(alarms, dict)
        assert isinstance(newest, dict)
        self._recent.load_state_dict(recent, self._device)
        self._refreshed.load_state_dict(refreshed, self._device)
        self._alarms.load_state_dict(alarms)
        self._newest, self._largest = newest, state["largest"] if isinstance(state["largest"], float) else math.nan


def rows_of(output: StepOutput) -> Iterator[tuple[str, Float[Tensor, "R _"]]]:
    """What has a row an image and view: the trunk's feature, each head's embedding, teacher's outputs beside student's.

    A head's first output is an embedding, unless it is as wide as targets are: then it scores prototypes.
    """
    for rows in output.features.values():
        yield "features", pooled(rows)
    scores = {shares.shape[1] for shares in output.signals.targets}
    for head, outputs in output.outputs.items():
        if outputs[0].ndim == 2 and outputs[0].shape[1] not in scores:
            yield f"embeddings.{head}", outputs[0]
    for number, pair in enumerate(output.signals.taught):
        yield f"taught.{number}", torch.cat(pair)


def of_rows(kept: Mapping[str, Shaped[Tensor, "N ..."]]) -> Iterator[tuple[Figure, float]]:
    """The figures of rows, each of the head, or pair, or set of prototypes where it is worst."""
    found: dict[Figure, list[float]] = {}
    for name, rows in kept.items():
        for figure, value in _FIGURES[name.partition(".")[0]](rows):
            found.setdefault(figure, []).append(value)
    yield from ((figure, worst(figure, values)) for figure, values in found.items())


def _of_features(rows: Float[Tensor, "N V D"]) -> Iterator[tuple[Figure, float]]:
    yield Figure.FEATURE_RANK, rankme(rows[:, 0])
    yield Figure.FEATURE_STD, float(spread(rows[:, 0]))


def _of_embeddings(rows: Float[Tensor, "N V D"]) -> Iterator[tuple[Figure, float]]:
    first = rows[:, 0]
    if first.shape[1] >= NARROW:
        yield Figure.EMBEDDING_RANK, rankme(first)
    yield Figure.EMBEDDING_STD, float(spread(first))
    yield Figure.UNIFORMITY, float(uniformity(first))
    if rows.shape[1] > 1:
        yield Figure.ALIGNMENT, float(alignment(first, rows[:, 1]))
        yield Figure.VIEW_AGREEMENT, float(agreement(first, rows[:, 1]))


def _of_taught(rows: Float[Tensor, "N V D"]) -> Iterator[tuple[Figure, float]]:
    teacher, student = (half.flatten(0, 1) for half in rows.chunk(2, dim=1))
    yield Figure.TEACHER_AGREEMENT, float(agreement(teacher, student))


def _summary(shares: Float[Tensor, "R K"]) -> Float[Tensor, "1 L"]:
    """Of rows of shares: their mean, and the mean of their entropies, which is all that figures need of them."""
    return torch.cat([shares.mean(dim=0), torch.special.entr(shares).sum(dim=1).mean()[None]])[None].float()


def _of_targets(summaries: Float[Tensor, "N L"]) -> Iterator[tuple[Figure, float]]:
    summary = summaries.mean(dim=0)
    mean, entropy = summary[:-1], summary[-1]
    yield Figure.PROTOTYPE_USE, float(perplexity(mean))
    yield Figure.TARGET_INFORMATION, float(information(mean, entropy))


_FIGURES = {"features": _of_features, "embeddings": _of_embeddings, "taught": _of_taught, "targets": _of_targets}


def of_centre(outputs: Float[Tensor, "R K"], centre: Float[Tensor, "1 K"]) -> float:
    """How far the centre is from the mean output of all ranks, over how far outputs are from it (collective)."""
    mean = distributed.all_reduce_mean(outputs.float().mean(dim=0))
    deviation = distributed.all_reduce_mean((outputs.float() - mean).square().sum(dim=1).mean()).sqrt()
    return float((mean - centre[0]).norm() / deviation)


def of_images(views: Sequence[Float[Tensor, "B C _ _"]]) -> Iterator[tuple[Figure, float]]:
    """The figures of normalized images."""
    first = views[0][:LOOKED_AT].float()
    yield Figure.INPUT_OFFSET, float(first.mean(dim=(0, 2, 3)).abs().max())
    yield Figure.INPUT_STD, float(first.std())
    alike = [view[:LOOKED_AT].float() for view in views[1:] if view.shape == views[0].shape]
    if alike:
        far = torch.stack([(view - first).square().flatten(1).mean(dim=1) for view in alike])
        yield Figure.SAME_VIEWS, float((far <= SAME * first.var()).all(dim=0).float().mean())


def of_loss(loss: float, expected: Optional[LossRange]) -> Iterator[tuple[Figure, float]]:
    """How far the loss is beyond what its method says, and from where outputs say nothing."""
    if expected is None or not math.isfinite(loss):
        return
    beyond = [(expected.lowest - loss, expected.lowest), (loss - expected.highest, expected.highest)]
    sides = [over - ROUNDING * max(1.0, abs(bound)) for over, bound in beyond if math.isfinite(bound)]
    if sides:
        yield Figure.LOSS_EXCESS, max(sides)
    if expected.uniform is not None:
        yield Figure.LOSS_MARGIN, abs(loss - expected.uniform)


def worst(figure: Figure, values: Sequence[float]) -> float:
    """Of those that are numbers, that which is nearest to the alarm; nan if none is a number."""
    numbers = [value for value in values if not math.isnan(value)]
    return (min if ABOUT[figure].highest is None else max)(numbers, default=math.nan)


def _module(state: TrainState) -> nn.Module:
    assert isinstance(state.student, nn.Module)
    return state.student


CollapseWatchConf = config_for(CollapseWatch)

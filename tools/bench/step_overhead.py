"""Images per second of the trainer over those of a plain PyTorch loop that does the same work.

    python tools/bench/step_overhead.py [--pairs 7] [--steps 30] [--batch-size 64]

SimCLR with a ResNet-18 of a quarter of the width at 32 x 32, uint8 batches in memory, one thread. Both
normalise, compute the same loss with modules of the same kind, set the learning rate, update by AdamW and read the
loss every 10 steps; the trainer also writes its metrics and looks for NaN. They take turns step by step, so that what
else the machine does meets both. The first steps are not timed; the median of the ratios of all pairs of runs is
printed. Exit code 1 below 0.98.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast
from unittest import mock

import torch
from torch import Tensor

from recipes.quickstart import quickstart
from ssltyped import config
from ssltyped.config.overrides import override
from ssltyped.engine import trainer as engine
from ssltyped.experiment import Experiment, build_trainer
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, Model, Moment, Outputs

MIN_RATIO = 0.98
WARM_UP = 5
LOG_EVERY = 10
LR = 1e-3
SIZE = 32


def recipe(steps: int, batch_size: int) -> Experiment:
    changes = [
        "trunk.width_multiplier=0.25",
        f"steps={steps}",
        "epochs=null",
        f"log_every={LOG_EVERY}",
        f"optimizer.rate.lr={LR}",
        "schedule=Cosine",
        "checkpoints.every_epochs=1000",
        "callbacks=[MetricsFile,NaNGuard]",
    ]
    return resolve_experiment(override(quickstart(batch_size=batch_size), changes)).config


def batches_of(batch_size: int) -> list[Batch]:
    """Four batches as the pipeline yields them: uint8, channels last in memory."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, SIZE, SIZE, 3)
    pixels = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(8)]
    views = [image.permute(0, 3, 1, 2) for image in pixels]
    return [Batch(views=(views[i], views[i + 4]), index=torch.arange(batch_size)) for i in range(4)]


def given(z: Tensor, views: Sequence[Tensor], heads: Sequence[str]) -> Outputs:
    """The model as the loss sees it, which has been computed."""
    return Outputs({heads[0]: (z,)}, {})


def plain_loop(resolved: Experiment, batches: Sequence[Batch], steps: int) -> Iterator[None]:
    """The loop as one would write it; stops after each step."""
    built = config.build(resolved)
    trunk, head, loss_function = built.trunk, built.heads["projector"], built.loss
    mean, std = (torch.tensor(values)[:, None, None] for values in (built.data.mean, built.data.std))
    optimizer = torch.optim.AdamW([*trunk.parameters(), *head.parameters()], lr=LR, weight_decay=1e-4)
    for step, batch in enumerate(itertools.islice(itertools.cycle(batches), steps)):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 + math.cos(math.pi * step / steps)) / 2
        moment = Moment(step, steps, steps)
        views = [(view.float().contiguous() / 255 - mean) / std for view in batch.views]
        (feature,) = trunk(torch.cat(views), ["flatten"])
        loss = loss_function.step(cast(Model, functools.partial(given, head(feature))), batch, moment).loss
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if step % LOG_EVERY == LOG_EVERY - 1:
            loss.item()
        yield


class Turns(Iterator[Batch]):
    """In the place of the trainer's pipeline: when it asks for a batch, the plain loop makes a step first."""

    def __init__(self, plain: Iterator[None], batches: Sequence[Batch]) -> None:
        self._plain, self._batches = plain, itertools.cycle(batches)
        self._returned = 0.0
        self.plain_seconds, self.trainer_seconds = list[float](), list[float]()

    def __next__(self) -> Batch:
        asked = time.perf_counter()
        if self._returned:
            self.trainer_seconds.append(asked - self._returned)
        next(self._plain)
        self._returned = time.perf_counter()
        self.plain_seconds.append(self._returned - asked)
        return next(self._batches)

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def run_pair(resolved: Experiment, steps: int, batch_size: int) -> tuple[float, float]:
    """Seconds of the timed steps of the plain loop and of the trainer."""
    asked_for = steps + WARM_UP + 1  # a step is timed when the next batch is asked for
    batches = batches_of(batch_size)
    turns = Turns(plain_loop(resolved, batches, asked_for), batches)

    def pipeline(**_: object) -> Turns:
        return turns

    facts = resolve_experiment(resolved).facts
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(engine, "TrainPipeline", pipeline):
        build_trainer(resolved, device=torch.device("cpu"), folder=Path(folder), facts=facts).fit()
    timed = slice(WARM_UP, WARM_UP + steps)
    assert len(turns.trainer_seconds[timed]) == len(turns.plain_seconds[timed]) == steps
    return sum(turns.plain_seconds[timed]), sum(turns.trainer_seconds[timed])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"pairs": 7, "steps": 30, "batch-size": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    resolved = recipe(options.steps + WARM_UP + 1, options.batch_size)
    images = options.steps * options.batch_size
    ratios = []
    for _ in range(options.pairs):
        plain, ours = run_pair(resolved, options.steps, options.batch_size)
        ratios.append(plain / ours)
        print(
            f"plain {images / plain:7.1f} images/s   trainer {images / ours:7.1f}   ratio {ratios[-1]:.3f}", flush=True
        )
    ratio = statistics.median(ratios)
    print(f"median ratio of images/s {ratio:.3f} (needs >= {MIN_RATIO})")
    return 0 if ratio >= MIN_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())

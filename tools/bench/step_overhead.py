"""Images per second of the trainer over those of a plain PyTorch loop that does the same work.

    python tools/bench/step_overhead.py [--pairs 7] [--steps 30] [--batch-size 64]
    python tools/bench/step_overhead.py --recipe simclr_1gpu --device cuda [--block 10]

SimCLR on uint8 batches in the memory of the device; `quickstart`: a ResNet-18 of a quarter of the width at 32 x 32, on
the CPU with one thread; `simclr_1gpu`: a ResNet-50 at 224 x 224 with autocast to bfloat16 and LARC. Both loops
normalise, compute the same loss with modules of the same kind, set the learning rate, update (by torch's AdamW; by our
LARC, which torch has not) and read the loss every 10 steps; the trainer also writes its metrics and looks for NaN. They
take turns, step by step or a block of steps each, so that what else the machine does meets both; a GPU is waited for
when the turn changes. The first steps are not timed; the median of the ratios of all pairs of runs is printed, and on a
GPU the most memory that was allocated in the turns of each, in GiB, with the weights of both. Exit code 1 below 0.98,
on a GPU below 0.95.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional, cast
from unittest import mock

import torch
from torch import Tensor, nn

from recipes import simclr_1gpu
from recipes.quickstart import quickstart
from ssltyped import config
from ssltyped.config.overrides import override
from ssltyped.engine import trainer as engine
from ssltyped.engine.parallel import autocast
from ssltyped.experiment import Experiment, build_trainer
from ssltyped.optimizers.torch_optim import AdamW
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, Model, Moment, Outputs

MIN_RATIO = {"cpu": 0.98, "cuda": 0.95}
WARM_UP = 5
LOG_EVERY = 10
LR = 1e-3
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Work:
    """What both loops do: a recipe, what is changed of it, the size of its images."""

    recipe: Experiment
    changes: Sequence[str]
    size: int
    batch_size: int


WORKS = {
    "quickstart": Work(quickstart(), ["trunk.width_multiplier=0.25"], size=32, batch_size=64),
    "simclr_1gpu": Work(
        simclr_1gpu.recipe,
        [
            "data.train.source=Digits",
            "data.train.path=null",
            "data.train.num_images=null",
            "optimizer.rate.base_lr=null",
        ],
        size=224,
        batch_size=256,
    ),
}


def resolved_of(work: Work, steps: int, batch_size: int) -> Experiment:
    changes = [
        *work.changes,
        f"data.train.batch_size={batch_size}",
        f"steps={steps}",
        "epochs=null",
        f"log_every={LOG_EVERY}",
        f"optimizer.rate.lr={LR}",
        "schedule=Cosine",
        "checkpoints.every_epochs=1000",
        "checkpoints.every_steps=null",
        "callbacks=[MetricsFile,NaNGuard]",
    ]
    return resolve_experiment(override(work.recipe, changes)).config


def batches_of(batch_size: int, size: int, device: torch.device) -> list[Batch]:
    """Four batches as the pipeline yields them: uint8, channels last in memory."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, size, size, 3)
    pixels = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device) for _ in range(8)]
    views = [image.permute(0, 3, 1, 2) for image in pixels]
    index = torch.arange(batch_size, device=device)
    return [Batch(views=(views[i], views[i + 4]), index=index) for i in range(4)]


def given(z: Tensor, views: Sequence[Tensor], heads: Sequence[str]) -> Outputs:
    """The model as the loss sees it, which has been computed."""
    return Outputs({heads[0]: (z,)}, {})


def plain_loop(resolved: Experiment, batches: Sequence[Batch], steps: int, device: torch.device) -> Iterator[None]:
    """The loop as one would write it; stops after each step."""
    built = config.build(resolved)
    loss_function, model = (
        built.loss,
        nn.ModuleDict({"trunk": built.trunk, "head": built.heads["projector"]}).to(device),
    )
    trunk, head = model["trunk"], model["head"]
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (built.data.mean, built.data.std))
    torchs = isinstance(built.optimizer, AdamW)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-4) if torchs else built.optimizer(model)
    for step, batch in enumerate(itertools.islice(itertools.cycle(batches), steps)):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 + math.cos(math.pi * step / steps)) / 2
        moment = Moment(step, steps, steps)
        views = [(view.float().contiguous() / 255 - mean) / std for view in batch.views]
        with autocast(built.precision, device):
            (feature,) = trunk(torch.cat(views), ["flatten"])
            loss = loss_function.step(cast(Model, functools.partial(given, head(feature))), batch, moment).loss
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if step % LOG_EVERY == LOG_EVERY - 1:
            loss.item()
        yield


class Loop:
    """Seconds of the turns of a loop, and the most memory that was allocated in them."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._begun = device, 0.0
        self.seconds, self.peak = list[float](), 0

    def begin(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        self._begun = time.perf_counter()

    def end(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            self.peak = max(self.peak, torch.cuda.max_memory_allocated(self._device))
        self.seconds.append(time.perf_counter() - self._begun)


class Turns(Iterator[Batch]):
    """In the place of the trainer's pipeline: when it asks for a batch, and has done a block of steps, the plain loop
    makes as many first."""

    def __init__(self, plain: Iterator[None], batches: Sequence[Batch], device: torch.device, block: int) -> None:
        self._steps, self._batches, self._block, self._asked = plain, itertools.cycle(batches), block, 0
        self.plain, self.trainer = Loop(device), Loop(device)

    def __next__(self) -> Batch:
        if self._asked % self._block == 0:
            if self._asked:
                self.trainer.end()
            self.plain.begin()
            for _ in range(self._block):
                next(self._steps)
            self.plain.end()
            self.trainer.begin()
        self._asked += 1
        return next(self._batches)

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Of the timed steps of the plain loop and of the trainer: seconds, and the most bytes that were allocated."""

    plain: float
    trainer: float
    plain_peak: int
    trainer_peak: int


def run_pair(work: Work, steps: int, batch_size: int, size: int, device: torch.device, block: int = 1) -> Pair:
    """Both loops in turn; steps are rounded up to whole blocks."""
    timed, warm_up = math.ceil(steps / block), math.ceil(WARM_UP / block)
    all_steps = (timed + warm_up) * block + 1  # a block is timed when the next batch is asked for
    resolved, batches = resolved_of(work, all_steps, batch_size), batches_of(batch_size, size, device)
    turns = Turns(plain_loop(resolved, batches, all_steps + block, device), batches, device, block)

    def pipeline(**_: object) -> Turns:
        return turns

    facts = resolve_experiment(resolved).facts
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(engine, "TrainPipeline", pipeline):
        build_trainer(resolved, device=device, folder=Path(folder), facts=facts).fit()
    plain, trainer = (loop.seconds[warm_up : warm_up + timed] for loop in (turns.plain, turns.trainer))
    assert len(plain) == len(trainer) == timed
    scale = steps / (timed * block)
    return Pair(sum(plain) * scale, sum(trainer) * scale, turns.plain.peak, turns.trainer.peak)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"pairs": 7, "steps": 30, "block": 1, "batch-size": None, "size": None}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--recipe", choices=list(WORKS), default="quickstart")
    parser.add_argument("--device", choices=list(MIN_RATIO), default="cpu")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    work, device = WORKS[options.recipe], torch.device(options.device)
    batch_size, size = options.batch_size or work.batch_size, options.size or work.size
    images = options.steps * batch_size
    ratios, peaks = list[float](), (0, 0)
    for _ in range(options.pairs):
        pair = run_pair(work, options.steps, batch_size, size, device, options.block)
        ratios.append(pair.plain / pair.trainer)
        peaks = max(peaks[0], pair.plain_peak), max(peaks[1], pair.trainer_peak)
        plain, ours = images / pair.plain, images / pair.trainer
        print(f"plain {plain:7.1f} images/s   trainer {ours:7.1f}   ratio {ratios[-1]:.3f}", flush=True)
    if device.type == "cuda":
        print(f"peak memory: plain {peaks[0] / GIB:.2f} GiB, trainer {peaks[1] / GIB:.2f} GiB")
    ratio, least = statistics.median(ratios), MIN_RATIO[options.device]
    print(f"median ratio of images/s {ratio:.3f} (needs >= {least})")
    return 0 if ratio >= least else 1


if __name__ == "__main__":
    sys.exit(main())

"""What `CollapseWatch` costs: the time of its hooks, beside that of the steps between them, in one and the same run.

    python tools/bench/collapse_watch.py [--steps 100] [--batch-size 100]

SimCLR on the embedded digits in batches of the quickstart's, with a ResNet-18 of a quarter of the width and ImageNet's
stem: the cheapest steps of the shipped recipes, on one thread. Every hook of the watch is timed; a step is all else
that the run does. A look and the steps since the last one are a pair. Prints each pair's ratio and the median; exit
code 1 above 1 %.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from recipes.quickstart import quickstart
from ssltyped import config
from ssltyped.config import config_for
from ssltyped.config.overrides import override
from ssltyped.engine.callbacks.collapse_watch import CollapseWatch
from ssltyped.experiment import build_trainer
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, StepOutput, TrainState

MOST = 0.01


class TimedWatch(CollapseWatch):
    """The watch, which notes what it takes, and when."""

    spent = 0.0

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent += time.perf_counter() - start

    def on_train_start(self, state: TrainState) -> None:
        super().on_train_start(state)
        self.ends: list[tuple[float, float]] = []

    def on_step_start(self, state: TrainState, batch: Batch) -> None:
        with self._timed():
            super().on_step_start(state, batch)

    def on_loss(self, state: TrainState, batch: Batch, output: StepOutput) -> None:
        with self._timed():
            super().on_loss(state, batch, output)

    def on_step_end(self, state: TrainState) -> None:
        with self._timed():
            super().on_step_end(state)
        if state.step % self.every_steps == 0:
            self.ends.append((time.perf_counter(), self.spent))


TimedWatchConf = config_for(TimedWatch)


def ratios(steps: int, batch_size: int) -> list[float]:
    """Of each interval between two looks after the first: the watch's time over all other time."""
    changes = [f"steps={steps}", "epochs=null", "data.train.num_workers=0", "trunk.width_multiplier=0.25"]
    changes += ["trunk.stem=imagenet", "checkpoints.every_epochs=1000"]
    asked = override(quickstart(batch_size=batch_size), changes)
    resolution = resolve_experiment(config.replaced(asked, {"callbacks": [TimedWatchConf()]}))
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            resolution.config, device=torch.device("cpu"), folder=Path(folder), facts=resolution.facts
        )
        trainer.fit()
    (watch,) = (callback for callback in trainer._callbacks if isinstance(callback, TimedWatch))
    pairs = zip(watch.ends, watch.ends[1:], strict=False)
    return [(spent - before) / (end - start - (spent - before)) for (start, before), (end, spent) in pairs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"steps": 100, "batch-size": 100}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = ratios(options.steps, options.batch_size)
    print("  ".join(f"{100 * ratio:.2f} %" for ratio in found))
    ratio = statistics.median(found)
    print(f"median cost of the watch {100 * ratio:.2f} % of the steps (needs <= {100 * MOST:g} %)")
    return 0 if ratio <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())

"""Every method through the real engine: the images of a step, shared out over ranks and accumulated batches.

Nothing is emulated: pipeline, DistributedDataParallel, SyncBatchNorm, optimizer, `Loss.update` are those of a run. In
float64, so that what differs is not rounding. What a method refuses to accumulate, it must refuse for a stated reason.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from other_methods import EVERY, with_weights
from ranks import run_on_ranks
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ssltyped import config, distributed, losses
from ssltyped.config import ConfigError
from ssltyped.data.pipeline import Data
from ssltyped.experiment import Experiment, build_trainer
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, Loss

STEPS, GLOBAL_BATCH = 4, 8
LOGGED = "the loss"
REFUSED = {
    *("simclr", "multicrop_simclr", "barlow_twins", "swav", "swav_momentum", "msn", "npid"),
    *("weighted_classes", "swav_distillation"),
}
"""Methods that compare or weigh the images of a batch, or take a constant from the first one."""


@contextmanager
def in_float64() -> Iterator[None]:
    """Parts are built in float64, and get images of it."""
    normalize, before = Data.normalize, torch.get_default_dtype()

    def doubled(data: Data, batch: Batch) -> Batch:
        batch = normalize(data, batch)
        return dataclasses.replace(batch, views=tuple(view.double() for view in batch.views))

    torch.set_default_dtype(torch.float64)
    setattr(Data, "normalize", doubled)  # noqa: B010  # for this block
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        setattr(Data, "normalize", normalize)  # noqa: B010  # as above


def asked_of(name: str, accumulation: int, folder: Path) -> Experiment:
    """The method with the same images in every step; without dropout, which each batch draws for itself."""
    ranks = distributed.world_size()
    asked = with_weights(EVERY[name], folder / "teacher.pt")
    still = {f"trunk.{field}": 0.0 for field in ("dropout_rate", "drop_path_rate") if hasattr(asked.trunk, field)}
    fields = {
        "data.train.batch_size": GLOBAL_BATCH // ranks // accumulation,
        "distributed.num_procs": ranks,
        "accumulation": accumulation,
        "steps": STEPS,
        "epochs": None,
    }
    return config.replaced(asked, {**still, **fields})


def trained(name: str, accumulation: int, settled: bool, folder: Path) -> dict[str, Tensor] | list[str]:
    """The weights after some steps, and the loss of the last; or why it is refused.

    `settled`: BatchNorm does not learn from a batch, whose size it would see.
    """
    try:
        resolution = resolve_experiment(asked_of(name, accumulation, folder))
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    folder = folder / f"{name}_{accumulation}_{settled}_{distributed.world_size()}"
    folder.mkdir(exist_ok=True)
    with in_float64():
        trainer = build_trainer(resolution.config, device=torch.device("cpu"), folder=folder, facts=resolution.facts)
        for module in trainer._step.module.modules():
            if settled and isinstance(module, _BatchNorm):
                module.eval()
        trainer.fit()
        weights = {key: value.detach().clone() for key, value in trainer._step.module.named_parameters()}
    return {**weights, LOGGED: torch.tensor(trainer.metrics["loss"], dtype=torch.float64)}


def same(one: dict[str, Tensor] | list[str], other: dict[str, Tensor] | list[str]) -> None:
    assert isinstance(one, dict), one
    assert isinstance(other, dict), other
    assert one.keys() == other.keys()
    tolerances = {name: 1e-6 if name == LOGGED else 1e-8 for name in one}  # what is logged is float32
    apart = [name for name, rtol in tolerances.items() if not torch.allclose(one[name], other[name], rtol, 1e-9)]
    assert apart == []


def test_every_loss_is_here() -> None:
    """Of the package: those that are made by a name of their own."""
    for module in pkgutil.iter_modules(losses.__path__, f"{losses.__name__}."):
        importlib.import_module(module.name)
    made = {part.target for part in config.parts().values() if part.target.__module__.startswith(losses.__name__)}
    all_losses = {kind for kind in made if isinstance(kind, type) and issubclass(kind, Loss)}
    used = {config.part_of(part).target for asked in EVERY.values() for _, part in config.walk(asked.loss)}
    assert all_losses - used == set()


@pytest.mark.parametrize("name", EVERY)
def test_two_ranks_with_shared_statistics_train_as_one_process(name: str, tmp_path: Path) -> None:
    alone = trained(name, 1, False, tmp_path)
    for found in run_on_ranks(trained, 2, name, 1, False, tmp_path):
        same(alone, found)


@pytest.mark.parametrize("name", EVERY)
def test_accumulated_batches_train_as_one_batch_or_are_refused(name: str, tmp_path: Path) -> None:
    """Two and four in one process, two on two ranks each: queues, banks, centres and teachers move once a step."""
    alone = trained(name, 1, True, tmp_path)
    found = [trained(name, count, True, tmp_path) for count in (2, 4)]
    found += run_on_ranks(trained, 2, name, 2, True, tmp_path)
    refused = [one for one in found if isinstance(one, list)]
    assert len(refused) in (0, len(found))
    assert all("accumulat" in line for one in refused for line in one), refused
    assert bool(refused) == (name in REFUSED)
    for one in found if not refused else ():
        same(alone, one)

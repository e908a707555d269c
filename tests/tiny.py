"""A training that takes a second: a ResNet-18 of an eighth of the width on images made on the spot.

launch(tiny(output=tmp_path, steps=5))                    in this process
main(["tiny", f"output={tmp_path}"])                      as a command does
start_cli("tiny", f"output={tmp_path}")                   as a user does, in a process of its own
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import torch
from annotated_types import Ge, Gt

from ssltyped.config import build, config_for
from ssltyped.data.pipeline import DataConf
from ssltyped.data.splits import EvalSplitConf, TrainSplitConf
from ssltyped.engine.callbacks.metrics_file import MetricsFileConf
from ssltyped.engine.checkpoint import Checkpoints, CheckpointsConf
from ssltyped.engine.parallel import DistributedConf
from ssltyped.engine.trainer import Trainer
from ssltyped.experiment import Experiment, ExperimentConf, build_trainer
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.resolution import resolve_experiment
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.transforms.colour import RandomGrayscaleConf
from ssltyped.transforms.geometry import CenterCropConf, HorizontalFlipConf, RandomResizedCropConf
from ssltyped.transforms.opencv import to_image
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.trunks.resnet import ResNetConf, Stem
from ssltyped.types import Callback, Image, Loss, Optimizer, Scheduler, Source, UnreadableImageError

SIZE = 16


class Patches(Source):
    """Noise around a colour that is the class's: 4 classes, and no file is read.

    Args:
        count: number of images.
        has_labels: whether the classes are told.
        broken: images that cannot be read.
        contrast: how far the colours of the classes are apart.
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Gt(0)] = 24,
        has_labels: bool = True,
        broken: list[Annotated[int, Ge(0)]] = [],  # noqa: B006  # never changed
        contrast: float = 1.0,
    ) -> None:
        self.count, self.has_labels, self.broken, self.contrast = count, has_labels, broken, contrast

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Image:
        if index in self.broken:
            raise UnreadableImageError("cut short")
        random = np.random.Generator(np.random.Philox(key=[7, index]))
        colour = np.random.Generator(np.random.Philox(key=[8, index % 4])).uniform(-70, 70, 3)
        colour = 128 + self.contrast * colour
        return to_image((colour + random.uniform(-55, 55, (20, 20, 3))).astype(np.uint8))

    def name(self, index: int) -> str:
        return f"patches/{index}.png"

    @property
    def labelled(self) -> bool:
        return self.has_labels

    def label(self, index: int) -> int:
        return index % 4


PatchesConf = config_for(Patches)


class Vanishing(Patches):
    """Of which a process can read one."""

    read_one = False

    def read(self, index: int) -> Image:
        if Vanishing.read_one:
            raise UnreadableImageError("gone")
        Vanishing.read_one = True
        return super().read(index)


VanishingConf = config_for(Vanishing)


def tiny(
    *,
    output: Path = Path("runs"),
    epochs: Optional[int] = None,
    steps: Optional[int] = None,
    batch_size: int = 8,
    source: Optional[Source] = None,
    optimizer: Optional[Optimizer] = None,
    schedule: Optional[Scheduler] = None,
    loss: Optional[Loss] = None,
    checkpoints: Optional[Checkpoints] = None,
    callbacks: Sequence[Callback] = (),
    evaluated: bool = False,
) -> Experiment:
    """SimCLR on 24 patches of 16 x 16: 3 steps an epoch, 6 steps if neither epochs nor steps are given."""
    transforms = [RandomResizedCropConf(size=SIZE), HorizontalFlipConf(), RandomGrayscaleConf(p=0.2)]
    val = EvalSplitConf(source=PatchesConf(count=10), transforms=[CenterCropConf(size=SIZE)], num_workers=0)
    return ExperimentConf(
        trunk=ResNetConf(depth=18, width_multiplier=0.125, stem=Stem.SMALL),
        heads={"projector": MLPHeadConf(dims=[16, 8])},
        loss=loss or SimCLRLossConf(temperature=0.2),
        data=DataConf(
            train=TrainSplitConf(
                source=source or PatchesConf(),
                views=RepeatViewsConf(num_views=2, transforms=transforms),
                batch_size=batch_size,
                num_workers=0,
            ),
            val=val if evaluated else None,
        ),
        optimizer=optimizer or SGDConf(rate=RateConf(lr=0.05)),
        schedule=schedule or CosineConf(),
        epochs=2 if epochs is None and steps is None else epochs,
        steps=steps,
        distributed=DistributedConf(),
        checkpoints=checkpoints or CheckpointsConf(),
        callbacks=list(callbacks),
        log_every=1,
        output=output,
        name="tiny",
    )


recipe = tiny(callbacks=[MetricsFileConf()])


def tiny_trainer(asked: Experiment, folder: Path) -> Trainer:
    """The trainer of a recipe, in this process."""
    resolution = resolve_experiment(asked)
    return build_trainer(resolution.config, device=torch.device("cpu"), folder=folder, facts=resolution.facts)


def built(callback: Callback) -> Callback:
    """The callback that a config describes."""
    return build(callback)


def environment() -> dict[str, str]:
    """For a process that runs a recipe of this folder on one thread, and knows nothing of torchrun."""
    own = {name: value for name, value in os.environ.items() if name not in TORCHRUN}
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), own.get("PYTHONPATH", "")]))
    return {**own, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def start_cli(*arguments: str) -> subprocess.Popen[str]:
    """`python -m ssltyped.run ...`, started."""
    command = [sys.executable, "-u", "-m", "ssltyped.run", *arguments]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def sha256(weights: Path) -> str:
    """Of names and values of all tensors of a weights file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(torch.load(weights, weights_only=True).items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()

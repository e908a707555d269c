"""Processes and devices: what a run asks for, what is here, and the process group that joins them."""

import dataclasses
import os
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from enum import Enum
from typing import Annotated, Optional, Self

import numpy as np
import torch
from annotated_types import Gt

from ssltyped.config import INFERRED, ConfigError, config_for
from ssltyped.types import Component, Facts, Inference, Problem


class Device(Enum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(Enum):
    """What the forward pass computes in; weights and optimizer stay float32. fp16 scales the loss (GradScaler)."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The block of a forward pass in this precision."""
    dtype = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


class Distributed(Component):
    """How many processes train, and how they are joined (DDP; gloo on CPU, nccl on GPU).

    Args:
        num_procs: processes on each node; on GPUs one each.
        nodes: machines; more than one is started by torchrun on each of them.
        device: auto takes the GPUs if there are any.
        sync_bn_group: ranks that share BatchNorm statistics; 1: none do; null: the ranks of one node.
        timeout_s: seconds without an answer from another rank after which the run fails.
    """

    def __init__(
        self,
        *,
        num_procs: Annotated[int, Gt(0)] = 1,
        nodes: Annotated[int, Gt(0)] = 1,
        device: Device = Device.AUTO,
        sync_bn_group: Annotated[int, Gt(0)] = INFERRED,
        timeout_s: Annotated[int, Gt(0)] = 1800,
    ) -> None:
        self.num_procs, self.nodes, self.device = num_procs, nodes, device
        self.sync_bn_group, self.timeout_s = sync_bn_group, timeout_s

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        rule = "1 process: nothing to share" if facts.world_size == 1 else "BatchNorm over the ranks of one node"
        yield Inference("sync_bn_group", facts.ranks_per_node, rule, default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.sync_bn_group and facts.world_size % config.sync_bn_group:
            yield Problem("sync_bn_group", f"got {config.sync_bn_group}: must divide the {facts.world_size} ranks")


DistributedConf = config_for(Distributed)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process is: set by torchrun (or by our own launcher), or alone."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int

    @classmethod
    def from_environment(cls) -> Optional[Self]:
        """What torchrun says; None if this process was not started by it. Raises `ConfigError` for half of it."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        missing = [name for name in names if name not in os.environ]
        if "WORLD_SIZE" in missing or (missing and os.environ["WORLD_SIZE"] == "1"):
            return None
        if missing:
            message = f"the environment lacks {', '.join(missing)}: start with torchrun, or unset the others"
            raise ConfigError([Problem("distributed", message)])
        return cls(*(int(os.environ[name]) for name in names))


def say(text: str) -> None:
    """Print on rank 0 only, also before the process group is there and after it has gone."""
    if os.environ.get("RANK", "0") == "0":
        tell(text)


def tell(text: str) -> None:
    """Print on whichever rank. What the terminal's encoding lacks (the bars of a plan) becomes a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except BrokenPipeError:  # `--help | head`: nobody reads on, also not what is flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def device_for(asked: Device, local_rank: int) -> torch.device:
    """This process's device. Raises `ConfigError` for a GPU that is not here."""
    if asked is Device.CPU or (asked is Device.AUTO and not torch.cuda.is_available()):
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        message = f"process {local_rank} needs a GPU of its own, and {torch.cuda.device_count()} are visible here"
        raise ConfigError([Problem("distributed.device", message)])
    return torch.device("cuda", local_rank)


@contextmanager
def process_group(place: Place, device: torch.device, timeout_s: int) -> Iterator[None]:
    """Join the other processes for the time of the block; nothing to do for one process."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if place.world_size == 1:
        yield
        return
    # gloo beside nccl, so that flags of the host (an interrupt) need no GPU
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the schedules say for one step; without a schedule of the weight decay it stays what the recipe says.

    `own` are the learning rates of groups that have their own schedule, by their names.
    """

    lr: float
    weight_decay: Optional[float] = None
    own: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def logs(self) -> dict[str, float]:
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        return {"lr": self.lr, **{f"lr.{name}": lr for name, lr in self.own.items()}, **decay}

    def set(self, optimizer: torch.optim.Optimizer) -> None:
        """For every group, its own multiple."""
        for group in optimizer.param_groups:
            group["lr"] = self.own.get(group.get("schedule", ""), self.lr) * group["lr_scale"]
            if self.weight_decay is not None:
                group["weight_decay"] = self.weight_decay * group["wd_scale"]


def seed_step(seed: int, step: int, rank: int, device: torch.device, part: int = 0) -> None:
    """Seed every global generator for one batch of a step: dropout is a function of (seed, step, rank, part).

    So nothing random is left to save, and an evaluation in between does not move the training.
    """
    value = int(np.random.SeedSequence([seed, step, rank, part]).generate_state(1, np.uint32)[0])
    torch.random.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)
    np.random.seed(value)
    random.seed(value)

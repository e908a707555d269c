"""Why the processes that something wants are not here."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Optional

import torch

from ssltyped import config
from ssltyped.engine.parallel import Device, Distributed, Place
from ssltyped.types import Problem


def fitting(procs: int) -> str:
    """The overrides that make a recipe fit on one node."""
    return f"make it fit: distributed.nodes=1 distributed.num_procs={procs}"


def misfit(wanted: Distributed, place: Optional[Place], advice: Callable[[int], str] = fitting) -> list[Problem]:
    """Why the processes that a recipe wants are not here, and the two ways on; empty if they are.

    `advice`: what to write for so many processes on this node.
    """
    nodes, procs = wanted.nodes, wanted.num_procs
    if wanted.device is Device.CUDA and not torch.cuda.device_count():
        message = "got cuda, and there is no GPU here: distributed.device=cpu goes without"
        return [Problem("distributed.device", message)]
    if place is not None:
        if (place.world_size, place.local_world_size) == (nodes * procs, procs):
            return []
        started = f"torchrun started {place.world_size} processes, {place.local_world_size} on this node"
        right = (
            f"distributed.nodes={place.world_size // place.local_world_size} "
            f"distributed.num_procs={place.local_world_size}"
        )
        return [Problem("distributed", f"{started}; the recipe wants {nodes} nodes x {procs}: set {right}")]
    on_gpus = wanted.device is Device.CUDA or (wanted.device is Device.AUTO and torch.cuda.is_available())
    here = torch.cuda.device_count() if on_gpus else max(os.cpu_count() or 1, 2)
    if nodes == 1 and procs <= here:
        return []
    unit = "GPUs" if on_gpus else "CPU cores (no GPU)"
    return [
        Problem(
            "distributed", f"the recipe wants {nodes} nodes x {procs} processes; here is 1 node with {here} {unit}"
        ),
        Problem(
            "  either",
            f"start it on each of the {nodes} nodes: torchrun --nnodes={nodes} --nproc-per-node={procs} "
            "--rdzv-backend=c10d --rdzv-endpoint=FIRST_NODE:29500 -m ssltyped.run RECIPE [OVERRIDE ...]",
        ),
        Problem("  or", advice(min(procs, here))),
    ]


def defined_in_main(recipe: object, below: Sequence[str]) -> Iterator[Problem]:
    """The parts whose path starts with one of these that other processes would need and cannot import."""
    message = "is defined in __main__, which other processes cannot import: move it to a module"
    for path, part in config.walk(recipe):
        if path.startswith(tuple(below)) and type(part).__module__ == "__main__":
            yield Problem(path, message)

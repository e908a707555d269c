"""Is there enough for BatchNorm to normalize by?"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssltyped.config import build
from ssltyped.config.hints import listed
from ssltyped.types import Problem, as_named


def lone_images(module: nn.Module, step: Callable[[], object]) -> tuple[list[Problem], list[Problem]]:
    """What cannot be, and what may be unwise, in a step of one image (on the meta device), which no other rank shares.

    It is asked of every BatchNorm layer of model and method that the step comes to; one that is frozen, in eval mode,
    normalizes by what it has learned. A single value a channel is no statistic, and torch refuses it.
    """
    fewest = values_seen(module, step)
    remedy = "use a larger batch, or share them among ranks (distributed.sync_bn_group)"
    if single := [name for name, values in fewest.items() if values == 1]:
        message = f"1 image a rank is a single value a channel for BatchNorm ({listed(single, 3)}), which has no"
        return [Problem("data.train.batch_size", f"{message} statistics: {remedy}")], []
    message = f"1 image a rank: BatchNorm normalizes by the statistics of a single image: {remedy}"
    return [], [Problem("data.train.batch_size", message)] if fewest else []


def has_batch_norm(parts: Iterable[object]) -> bool:
    """Whether there is a BatchNorm layer in what these configs describe."""
    with torch.device("meta"):
        built = [one for part in parts if isinstance(one := build(part), nn.Module)]
    return any(isinstance(module, _BatchNorm) for one in built for module in one.modules())


def values_seen(module: nn.Module, step: Callable[[], object]) -> dict[str, int]:
    """The fewest values a channel that each BatchNorm layer in training mode gets at once, by its name."""
    fewest: dict[str, int] = {}

    def see(name: str, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if norm.training:
            values = inputs[0].numel() // inputs[0].shape[1]
            fewest[name] = min(values, fewest.get(name, values))

    norms = [(as_named(path), norm) for path, norm in module.named_modules() if isinstance(norm, _BatchNorm)]
    hooks = [norm.register_forward_pre_hook(partial(see, name)) for name, norm in norms]
    with suppress(Exception):  # what else fails, the plan's step, and the run's, tell
        step()
    for hook in hooks:
        hook.remove()
    return fewest

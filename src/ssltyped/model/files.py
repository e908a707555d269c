"""Files of weights: tensors by name, and what they are."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ssltyped.config.hints import brief

_ABOUT = "ssltyped"
"""The entry of a state dict's metadata that is ours."""


def write_weights(path: Path, model: nn.Module, about: Mapping[str, str | int]) -> None:
    """The weights of a model, readable by `torch.load(path, weights_only=True)`; written whole or not at all.

    `about` says what they are; it is kept where torch keeps the versions of modules, so that the file is a plain state
    dict to everybody else.
    """
    state = model.state_dict()
    weights = OrderedDict((name, value.cpu()) for name, value in state.items())
    weights._metadata = {**getattr(state, "_metadata", {}), _ABOUT: dict(about)}  # type: ignore[attr-defined]  # torch's place for it
    partial = path.with_suffix(".part")
    torch.save(weights, partial)
    partial.replace(path)


def about(path: Path) -> Mapping[str, str | int]:
    """What `write_weights` was told about a file: product (student or teacher), method, step; empty for others' files.

    Raises ValueError for a file that holds no weights.
    """
    found: Mapping[str, str | int] = getattr(read_weights(path), "_metadata", {}).get(_ABOUT, {})
    return found


def read_file(path: Path) -> object:
    """What a file of torch's holds, on the CPU; no pickle is executed. Raises ValueError for another kind of file."""
    try:
        found: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch's reader makes of the bytes of another kind of file
        raise ValueError(f"cannot be read as weights: {brief(f'{type(error).__name__}: {error}')}") from error
    return found


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name. Raises ValueError for a file that holds something else."""
    found = read_file(path)
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError("holds no tensors by name: give the weights.pt of a run")
    return found

"""Files that are there whole or not at all, and files of weights: tensors by name, and what they are."""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ssltyped.config.hints import brief

_ABOUT = "ssltyped"
"""The entry of a state dict's metadata that is ours."""


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, whose place it takes when the block has ended well and all is on disk."""
    partial = path.with_name(path.name + ".part")
    yield partial
    sync(partial)
    partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with written(path) as partial:
        partial.write_text(text)


def sync(path: Path) -> None:
    """Wait until a file, or what is listed in a folder, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_weights(path: Path, model: nn.Module, about: Mapping[str, str | int]) -> None:
    """The weights of a model, readable by `torch.load(path, weights_only=True)`; written whole or not at all.

    `about` says what they are; it is kept where torch keeps the versions of modules, so that the file is a plain state
    dict to everybody else.
    """
    state = model.state_dict()
    weights = OrderedDict((name, value.cpu()) for name, value in state.items())
    weights._metadata = {**getattr(state, "_metadata", {}), _ABOUT: dict(about)}  # type: ignore[attr-defined]  # torch's place for it
    with written(path) as partial:
        torch.save(weights, partial)


def about(path: Path) -> Mapping[str, str | int]:
    """What `write_weights` was told about a file: product (student or teacher), method, step, classes; else empty.

    Raises ValueError for a file that holds no weights.
    """
    return about_of(read_weights(path))


def about_of(weights: object) -> Mapping[str, str | int]:
    """The same of what has been read."""
    found: Mapping[str, str | int] = getattr(weights, "_metadata", {}).get(_ABOUT, {})
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

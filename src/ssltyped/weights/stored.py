"""What a file or a folder of weights holds: tensors by name, and what it says of itself. Nothing in it is executed."""

import argparse
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ssltyped.config import ConfigError
from ssltyped.config.hints import brief
from ssltyped.model.files import about_of, read_file
from ssltyped.types import Problem, as_named
from ssltyped.weights.closed_pickle import read_arrays
from ssltyped.weights.vissl_files import flat, is_vissl, read_vissl

OURS, VISSL = "ssltyped", "VISSL"
FILES = ("state.pt", "weights.pt", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""What a folder may hold: a checkpoint of ours, a finished run of ours, a model of Hugging Face's."""

_SAID = ("arch", "epoch", "step", "iteration", "phase_idx", "train_phase_idx", "type", "model_type", "architectures")
"""What files say of themselves beside their tensors."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """What was found.

    Args:
        tensors: by name; those in nested containers by their path in the file, with dots.
        kind: "ssltyped" or "VISSL" where the file itself says so, else "".
        whose: "student" or "teacher" of a run of ours; "" if the file does not say.
        said: what the file says of itself: method, step, classes, architecture.
        num_heads: heads of each attention, which no tensor shows, where a config beside the file says it.
    """

    tensors: Mapping[str, Tensor]
    kind: str = ""
    whose: str = ""
    said: Mapping[str, str] = dataclasses.field(default_factory=dict)
    num_heads: int | None = None


def read_stored(path: Path) -> Stored:
    """What a file, or the folder of a run, a checkpoint or a model of Hugging Face's holds. Raises `ConfigError`."""
    if not path.exists():
        raise _wrong(path, "does not exist")
    file = _file_in(path) if path.is_dir() else path
    try:
        stored = _read(file)
    except (ValueError, OSError) as error:
        raise _wrong(path, str(error)) from error
    if not stored.tensors:
        raise _wrong(path, "holds no tensors by name")
    config = file.parent / "config.json"
    return _with_config(stored, config) if file.name in FILES[2:] and config.is_file() else stored


def _file_in(folder: Path) -> Path:
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if found:
        return found[0]
    if checkpoints := sorted(folder.glob("checkpoints/step_*[0-9]")):
        raise _wrong(folder, f"is a run that has not finished: give {checkpoints[-1]}, its newest checkpoint")
    what = "neither a checkpoint (state.pt), nor the folder of a finished run (weights.pt), nor of a model of "
    raise _wrong(folder, f"is {what}Hugging Face's (model.safetensors)")


def _read(file: Path) -> Stored:
    if file.suffix == ".json":
        names = sorted(set(json.loads(file.read_text()).get("weight_map", {}).values()))
        parts = [_safetensors(file.with_name(Path(name).name)) for name in names]
        return Stored({name: value for part in parts for name, value in part.tensors.items()})
    if file.suffix == ".safetensors":
        return _safetensors(file)
    try:
        state = read_torch(file)
    except ValueError as error:
        with file.open("rb") as opened:
            pickled = opened.read(1) in (b"\x80", b"(", b"}")
        if not pickled:
            raise
        try:
            return Stored(read_arrays(file))
        except ValueError as other:
            raise ValueError(f"{error}; and as a pickle of arrays it {other}") from error
    return _of(file, state)


def read_torch(file: Path) -> object:
    """What a file of torch's holds. Arguments of a command, which many scripts save beside the weights, are let be."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            return read_file(file)
        except ValueError as error:
            named = re.search(r"GLOBAL (\S+)", str(error.__cause__))
            if named is None:
                raise
            message = f"holds more than tensors: {named[1]}, which is not read, as it may run code"
            raise ValueError(f"{message}; save its state dict alone, where it can be trusted") from error


def _of(file: Path, state: object) -> Stored:
    entries = state if isinstance(state, Mapping) else {}
    said = {str(key): brief(str(entries[key])) for key in _SAID if isinstance(entries.get(key), str | int | list)}
    if is_vissl(state):
        return Stored(read_vissl(file, state), VISSL, said=said)
    about = about_of(state)
    module = entries.get("module")
    if isinstance(module, Mapping) and "optimizer" in entries:
        named = {as_named(str(name)): value for name, value in module.items() if isinstance(value, Tensor)}
        return Stored(named, OURS, "student", said)
    whose = str(about.get("product", ""))
    return Stored(flat(entries), OURS if about else "", whose, {**said, **{key: str(v) for key, v in about.items()}})


def _safetensors(file: Path) -> Stored:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
            about: Mapping[str, str] = json.loads((opened.metadata() or {}).get(OURS, "{}"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot be read as safetensors: {brief(str(error))}") from error
    return Stored(tensors, OURS if about else "", str(about.get("product", "")), about)


def _with_config(stored: Stored, config: Path) -> Stored:
    """And what the config of a model of Hugging Face's says."""
    try:
        said = json.loads(config.read_text())
    except json.JSONDecodeError as error:
        raise _wrong(config, f"cannot be read: {error}") from error
    heads = said.get("num_attention_heads")
    told = {key: brief(str(said[key])) for key in _SAID if key in said}
    return dataclasses.replace(stored, said=told, num_heads=heads if isinstance(heads, int) else None)


def _wrong(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem("path", f"{path} {message}")])

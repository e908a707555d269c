"""Numbers recorded once from another implementation: `golden/<topic>.json` lists the cases, `.npz` holds the arrays."""

from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
T = TypeVar("T")


def load_cases(topic: str, kind: type[T]) -> list[T]:
    """The cases of a topic, each read as a `kind` (a dataclass); keys that it has no field for are left out."""
    text = (FOLDER / f"{topic}.json").read_text()
    return TypeAdapter(dict[str, list[kind]]).validate_json(text)["cases"]  # type: ignore[valid-type]  # run-time type


@cache
def load_tensors(topic: str) -> dict[str, Tensor]:
    """All arrays of a topic; the keys of a case start with its id, then `/in/` or `/out/`."""
    with np.load(FOLDER / f"{topic}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def sequence(tensors: dict[str, Tensor], prefix: str) -> list[Tensor]:
    """The tensors `<prefix>/0`, `<prefix>/1`, ..."""
    found: list[Tensor] = []
    while (key := f"{prefix}/{len(found)}") in tensors:
        found.append(tensors[key])
    assert found, prefix
    return found

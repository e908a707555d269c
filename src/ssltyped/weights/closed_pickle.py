"""Pickles of arrays in containers, such as Caffe2's and detectron2's: the only file of ours that has to do with pickle.

They are read by an unpickler that knows these and nothing else.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy._core import multiarray, numeric
from torch import Tensor

from ssltyped.config.hints import brief


def _encoded(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding!r}")
    return text.encode(encoding)


_KNOWN: Mapping[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encoded,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"numpy.{folder}.numeric", "_frombuffer"): getattr(numeric, "_frombuffer") for folder in ("core", "_core")},  # noqa: B009
    **{
        (f"numpy.{folder}.multiarray", name): getattr(multiarray, name)
        for folder in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
}
"""All that a pickle may name: what NumPy's own arrays and numbers are pickled as."""


class _Closed(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Callable[..., object]:
        if (module_name, global_name) not in _KNOWN:
            raise pickle.UnpicklingError(f"names {module_name}.{global_name}, which is no array and no container")
        return _KNOWN[module_name, global_name]


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of numbers of a pickled dict, or of its entry `blobs` (Caffe2) or `model` (detectron2), by name.

    Nothing in the file is executed. Raises ValueError for a file that is no such pickle, or that names anything but
    arrays and containers.
    """
    try:
        with path.open("rb") as file:
            found: object = _Closed(file, encoding="latin1").load()
    except Exception as error:  # whatever an unpickler makes of the bytes of another kind of file
        raise ValueError(f"is no pickle of arrays: {brief(f'{type(error).__name__}: {error}')}") from error
    blobs = found.get("blobs", found.get("model", found)) if isinstance(found, Mapping) else None
    if not isinstance(blobs, Mapping):
        raise ValueError("holds no arrays by name")
    numbers = {str(name): array for name, array in blobs.items() if isinstance(array, np.ndarray)}
    return {name: torch.from_numpy(array.copy()) for name, array in numbers.items() if array.dtype.kind in "fiub"}


def write_arrays(path: Path, content: Mapping[str, object]) -> None:
    """The same the other way, for readers who take nothing else."""
    with path.open("wb") as file:
        pickle.dump(dict(content), file)

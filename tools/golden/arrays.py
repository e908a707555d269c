"""The format of recorded cases: an index in JSON, arrays in `.npz` files beside it, and how numbers are compared.

A leaf of a case's inputs and expected numbers is `{"npz": file, "key": key}` or `{"value": scalar}`; dicts and lists
nest. A case of two ranks has `{"rank0": {...}, "rank1": {...}}` in both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional, TypeAlias, TypeVar, Union

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter, ValidationError
from torch import Tensor

T = TypeVar("T")


class BrokenIndexError(Exception):
    """The index, or a file that it names, cannot be read; `str()` of it says which and why."""


@dataclasses.dataclass(frozen=True)
class Unchecked:
    """In the place of a number that is not compared, with the reason."""

    reason: str


Tree: TypeAlias = Union[Tensor, Unchecked, bool, int, float, str, Sequence["Tree"], Mapping[str, "Tree"], None]


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """|got - want| <= atol + rtol |want|."""

    rtol: float
    atol: float


@dataclasses.dataclass(frozen=True)
class Case:
    """One recorded call: the parameters are those of VISSL's constructor."""

    id: str
    component: str
    name: str
    params: dict[str, JsonValue]
    inputs: dict[str, JsonValue]
    expected: dict[str, JsonValue]
    tol: Tolerance
    world_size: int = 1
    expected_value: Optional[dict[str, JsonValue]] = None
    update_interval: Optional[str] = None

    @property
    def kind(self) -> str:
        """What the results are counted by."""
        return f"{self.component}/{self.name}" + ("/ws2" if self.world_size == 2 else "")

    def of_rank(self, rank: int) -> Case:
        """What one rank of two sees."""
        return dataclasses.replace(
            self,
            inputs=_of_rank(self.inputs, rank),
            expected=_of_rank(self.expected, rank),
            expected_value=None if self.expected_value is None else _of_rank(self.expected_value, rank),
        )

    def wanted(self) -> dict[str, JsonValue]:
        """All that an adapter must give."""
        wanted = dict(self.expected)
        if self.expected_value is not None:
            wanted["value"] = {"value": self.expected_value}
        if self.update_interval is not None:
            wanted["update_interval"] = {"value": self.update_interval}
        return wanted


def _of_rank(ranks: dict[str, JsonValue], rank: int) -> dict[str, JsonValue]:
    part = ranks[f"rank{rank}"] if ranks else {}
    assert isinstance(part, dict)
    return part


Adapter: TypeAlias = Callable[[Case, "Inputs"], Mapping[str, Tree]]
"""A case and its arrays to the numbers that ours gives, of the same form as the expected ones."""


@dataclasses.dataclass(frozen=True)
class Bug:
    """A bug of VISSL that some cases recorded, and when it shows.

    `put_back`: whether the adapter puts the bug back where it shows, so that everything else is compared; if not the
    case is not run. `alone`: it is put back by running each rank as a world of its own.
    """

    says: str
    shows: Callable[[Case, Inputs], bool]
    put_back: bool = True
    alone: bool = False


@dataclasses.dataclass(frozen=True)
class Index:
    """A golden index and the folder it lies in."""

    folder: Path
    cases: list[Case]
    json_files: dict[str, JsonValue]
    raw: dict[str, dict[str, JsonValue]]


def load(path: Path) -> Index:
    """The index at `path`. Raises BrokenIndexError with what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        found = TypeAdapter(dict[str, JsonValue]).validate_json(text)
        raw = TypeAdapter(list[dict[str, JsonValue]]).validate_python(found.get("cases"))
        cases = [_case(item) for item in raw]
        json_files = TypeAdapter(dict[str, JsonValue]).validate_python(found.get("json_files", {}))
    except OSError as error:
        raise BrokenIndexError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BrokenIndexError(f"{path} is no golden index: {error.title} {where}: {first['msg']}") from error
    return Index(path.parent, cases, json_files, {case.id: item for case, item in zip(cases, raw, strict=True)})


def read_listings(path: Path) -> list[dict[str, JsonValue]]:
    """The cases of a JSON file beside an index. Raises BrokenIndexError with what is wrong."""
    try:
        found = TypeAdapter(dict[str, JsonValue]).validate_json(path.read_text(encoding="utf-8"))
        return TypeAdapter(list[dict[str, JsonValue]]).validate_python(found.get("cases"))
    except OSError as error:
        raise BrokenIndexError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise BrokenIndexError(f"{path} has no cases: {error.errors()[0]['msg']}") from error


def _case(item: dict[str, JsonValue]) -> Case:
    try:
        return TypeAdapter(Case).validate_python(item)
    except ValidationError as error:
        raise BrokenIndexError(
            f"case {item.get('id', '?')}: {error.errors()[0]['loc']} {error.errors()[0]['msg']}"
        ) from error


def read_params(case: Case, kind: type[T]) -> T:
    """The parameters of a case as a `kind` (a dataclass); those that it has no field for are left out."""
    return TypeAdapter(kind).validate_python(case.params)


class Arrays:
    """The arrays that an index refers to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, NpzFile] = {}

    def tree(self, node: JsonValue) -> Tree:
        """A node of the index with arrays in the place of references."""
        if isinstance(node, list):
            return [self.tree(part) for part in node]
        if not isinstance(node, dict):
            return node
        if "npz" in node and "key" in node:
            return self._array(str(node["npz"]), str(node["key"]))
        if set(node) == {"value"}:
            return _plain(node["value"])
        return {name: self.tree(part) for name, part in node.items()}

    def _array(self, file: str, key: str) -> Tensor:
        try:
            if file not in self._files:
                self._files[file] = np.load(self._folder / file)
            return torch.from_numpy(np.asarray(self._files[file][key]))
        except (OSError, KeyError, ValueError) as error:
            raise BrokenIndexError(f"array {key!r} of {self._folder / file}: {error}") from error


def _plain(node: JsonValue) -> Tree:
    """A JSON value as it is."""
    if isinstance(node, list):
        return [_plain(part) for part in node]
    return {name: _plain(part) for name, part in node.items()} if isinstance(node, dict) else node


class Inputs:
    """The inputs of a case, by name. A name that is not there, or another kind of value, is a TypeError."""

    def __init__(self, tree: Mapping[str, Tree], recorded: Mapping[str, Tree] | None = None) -> None:
        self.tree = tree
        self._recorded = recorded

    def __contains__(self, name: str) -> bool:
        return name in self.tree

    def tensor(self, name: str) -> Tensor:
        return _of_kind(self.tree.get(name), Tensor, name)

    def tensors(self, name: str) -> list[Tensor]:
        return [_of_kind(item, Tensor, name) for item in self.items(name)]

    def number(self, name: str) -> float:
        value = self.tree.get(name)
        return float(value) if isinstance(value, Tensor) else float(_of_kind(value, (bool, int, float), name))

    def parts(self, name: str) -> list[Inputs]:
        return [Inputs(_of_kind(item, Mapping, name)) for item in self.items(name)]

    @property
    def recorded(self) -> Inputs:
        """The expected numbers, for results of which several are right: to say which of them was recorded."""
        assert self._recorded is not None
        return Inputs(self._recorded)

    def items(self, name: str) -> Sequence[Tree]:
        value = self.tree.get(name)
        if not isinstance(value, list):
            raise TypeError(f"input {name!r} is {type(value).__name__}, not a list; there is {', '.join(self.tree)}")
        return value


def _of_kind(value: Tree, kind: type[T] | tuple[type[T], ...], name: str) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"input {name!r} is {type(value).__name__}")
    return value


def differences(want: Tree, got: Tree, tol: Tolerance, path: str = "") -> Iterator[str]:
    """What is wrong with `got`, one sentence each."""
    if isinstance(got, Unchecked):
        return
    if isinstance(want, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(want):
            names = sorted(got) if isinstance(got, Mapping) else type(got).__name__
            yield f"{path or 'result'}: got {names}, recorded {sorted(want)}"
            return
        for name in want:
            yield from differences(want[name], got[name], tol, f"{path}.{name}".lstrip("."))
    elif isinstance(want, list):
        if not isinstance(got, list) or len(got) != len(want):
            yield f"{path}: got {len(got) if isinstance(got, list) else type(got).__name__}, recorded {len(want)} items"
            return
        for place, (one, other) in enumerate(zip(want, got, strict=True)):
            yield from differences(one, other, tol, f"{path}[{place}]")
    elif isinstance(want, (str, bool)) or want is None:
        if got != want:
            yield f"{path}: got {got!r}, recorded {want!r}"
    else:
        yield from _numbers(want, got, tol, path)


def _numbers(want: Tree, got: Tree, tol: Tolerance, path: str) -> Iterator[str]:
    one, other = _array_of(want), _array_of(got)
    if one is None or other is None:
        yield f"{path}: got {type(got).__name__}, recorded {type(want).__name__}"
        return
    if other.shape != one.shape and not other.size == one.size == 1:
        yield f"{path}: got the shape {other.shape}, recorded {one.shape}"
        return
    other = other.reshape(one.shape)
    close = np.isclose(other, one, rtol=tol.rtol, atol=tol.atol, equal_nan=True)
    if not close.all():
        worst = np.abs(other - one)[~close].max()
        yield f"{path}: {(~close).sum()} of {one.size} values differ, by up to {worst:.3g}"


def _array_of(value: Tree) -> Optional[NDArray[np.float64]]:
    """A number, numbers or a tensor; None for anything else."""
    if isinstance(value, Tensor):
        return np.asarray(value.detach().cpu().double().numpy(), dtype=np.float64)
    if isinstance(value, (bool, int, float)):
        return np.asarray(value, dtype=np.float64)
    if isinstance(value, list) and all(isinstance(item, (bool, int, float)) for item in value):
        return np.asarray(value, dtype=np.float64)
    return None


def unchecked(tree: Tree) -> Iterator[str]:
    """The reasons of all parts that are not compared."""
    if isinstance(tree, Unchecked):
        yield tree.reason
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from unchecked(part)
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for part in tree:
            yield from unchecked(part)

"""The files that VISSL writes: whole, in shards of FSDP that are put together, in slices of one tensor a file."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ssltyped.config.hints import brief, nearest
from ssltyped.model.files import read_file

PARTS = ("trunk", "heads")
_GROUPED = r"\.block\d+-part\d+\."
"""Blocks of a stage that one wrapper holds; the name of each has its number all the same."""


T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class _Flat:
    """Of a parameter of FSDP: what it is made of, one after the other, and what fills it up on this rank."""

    names: list[str]
    shapes: list[tuple[int, ...]]
    numels: list[int]
    padding: int


@dataclasses.dataclass(frozen=True)
class _Wrapped:
    """Of a module of FSDP: its path, its parameters by name, whether every rank has all of them, what is shared."""

    fsdp_path: str
    params: dict[str, _Flat]
    no_broadcast_optim_state: bool = False
    shared_param_info: list[tuple[str, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _Meta:
    """Of a trunk or a head: its modules of FSDP, and names of its buffers."""

    param_metadata: list[_Wrapped]
    buffer_names: list[str] = dataclasses.field(default_factory=list)


def is_vissl(state: object) -> bool:
    """Whether a file of torch's holds what VISSL (or ClassyVision) writes."""
    kinds = ("shard", "shard_list", "slice", "slice_list")
    return isinstance(state, Mapping) and ("classy_state_dict" in state or state.get("type") in kinds)


def read_vissl(path: Path, state: object) -> dict[str, Tensor]:
    """The weights in a file that holds `state`, as `trunk.*` and `heads.*`, and those of its loss as `loss.*`.

    Raises ValueError if it holds something else, and for a shard or a slice alone.
    """
    kind = state.get("type", "consolidated") if isinstance(state, Mapping) else ""
    if kind in ("shard", "slice"):
        raise ValueError(f"is one {kind} of several: give the file that lists them")
    if kind == "shard_list":
        return _put_together(path, state)
    model = _model(state)
    if kind == "slice_list":
        return {name: _slice(path, file) for name, file in _flat(model, str)}
    loss = state.get("loss") if isinstance(state, Mapping) else None
    found = dict(_flat({**{part: model.get(part, {}) for part in PARTS}, "loss": loss}, Tensor))
    return {re.sub(_GROUPED, ".", name): value for name, value in found.items()}


def _model(state: object) -> Mapping[str, object]:
    """`classy_state_dict.base_model.model`."""
    for step in ("classy_state_dict", "base_model", "model"):
        below = state.get(step) if isinstance(state, Mapping) else None
        if not isinstance(below, Mapping):
            found = nearest(step, [str(key) for key in state]) if isinstance(state, Mapping) else ""
            raise ValueError(f"is no checkpoint of VISSL: it has no {step!r}{found}")
        state = below
    assert isinstance(state, Mapping)
    return state


def flat(state: object) -> dict[str, Tensor]:
    """The tensors of nested containers, by their paths, with dots."""
    return dict(_flat(state, Tensor))


def _flat(state: object, kind: type[T], path: str = "") -> Iterator[tuple[str, T]]:
    if isinstance(state, kind):
        yield path, state
    elif isinstance(state, Mapping | list):
        items = state.items() if isinstance(state, Mapping) else enumerate(state)
        for step, value in items:
            yield from _flat(value, kind, f"{path}.{step}" if path else str(step))


def _put_together(path: Path, state: object) -> dict[str, Tensor]:
    """The tensors that the shards of a list hold in parts."""
    assert isinstance(state, Mapping)
    states = [_read(path.parent / PurePath(name).name) for name in state.get("shards", [])]
    if not states:
        raise ValueError("lists no shards")
    models = [_model(shard) for shard in states]
    metas = [shard["classy_state_dict"]["base_model"].get("meta") or {} for shard in states]  # type: ignore[index]  # _model has looked
    found: dict[str, Tensor] = {}
    for part, numbers in _parts(models[0]):
        ways = [_at(model, numbers) for model in models]
        whole = joined(ways, [_at(meta, numbers) for meta in metas])
        found |= {re.sub(_GROUPED, ".", f"{part}{name}"): value for name, value in whole.items()}
    return found


def _parts(model: Mapping[str, object]) -> Iterator[tuple[str, Sequence[object]]]:
    """The start of the names of the trunk, or of a head in a list, and where it is."""
    yield "trunk.", ("trunk",)
    heads = model.get("heads")
    for number in range(len(heads)) if isinstance(heads, list) else ():
        yield f"heads.{number}.", ("heads", number)


def _at(state: object, steps: Sequence[object]) -> object:
    for step in steps:
        if isinstance(state, Mapping):
            state = state.get(step)
        elif isinstance(state, list) and isinstance(step, int):
            state = state[step] if step < len(state) else None
    return state


def joined(weights: Sequence[object], metas: Sequence[object]) -> dict[str, Tensor]:
    """The state dict of a module that FSDP has cut: each rank's share of a parameter, one after the other, unpadded.

    `metas` say what each flat parameter is made of, as fairscale's `local_metadata_dict`. Buffers are those of the
    first rank. Raises ValueError for metadata of another form, and where shares do not add up.
    """
    states = [dict(_flat(state, Tensor)) for state in weights]
    if not any(metas):
        return states[0]
    try:
        read = [TypeAdapter(_Meta).validate_python(meta) for meta in metas]
    except ValidationError as error:
        raise ValueError(f"has shards whose metadata cannot be read: {brief(str(error))}") from error
    found: dict[str, Tensor] = {}
    for number, module in enumerate(read[0].param_metadata):
        start = f"{module.fsdp_path}." if module.fsdp_path else ""
        for name, flat in module.params.items():
            ranks = 1 if module.no_broadcast_optim_state else len(states)
            pads = [meta.param_metadata[number].params[name].padding for meta in read[:ranks]]
            whole = torch.cat([_unpadded(states[rank], start + name, pad) for rank, pad in enumerate(pads)])
            if sum(flat.numels) != len(whole):
                raise ValueError(f"has shards of {start + name} of {len(whole)} values; {sum(flat.numels)} are needed")
            pieces = zip(flat.names, torch.split(whole, flat.numels), flat.shapes, strict=True)
            found |= {start + piece: value.view(shape) for piece, value, shape in pieces}
        found |= {copy: found[source] for source, copy in module.shared_param_info}
    return found | {name: states[0][name] for name in read[0].buffer_names if name in states[0]}


def _unpadded(state: Mapping[str, Tensor], name: str, padding: int) -> Tensor:
    if name not in state:
        raise ValueError(f"has a shard without {name}")
    flat = state[name].flatten()
    return flat[: len(flat) - padding]


def _slice(path: Path, file: str) -> Tensor:
    """The tensor in a file of its own: where it was written, or below the list if that has been moved."""
    moved = path.with_name(f"{path.stem}_layers") / PurePath(file).name
    weight = _read(moved if moved.is_file() else Path(file)).get("weight")
    if not isinstance(weight, Tensor):
        raise ValueError(f"lists the slice {file}, which holds no weight")
    return weight


def _read(file: Path) -> Mapping[str, object]:
    """One of the files that another one lists."""
    if not file.is_file():
        raise ValueError(f"lists {file}, which does not exist")
    try:
        state = read_file(file)
    except ValueError as error:
        raise ValueError(f"lists {file}, which {error}") from error
    return state if isinstance(state, Mapping) else {}

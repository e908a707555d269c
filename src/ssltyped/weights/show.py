"""What a file of weights, or a run, is: in words."""

from collections import Counter
from pathlib import Path

import torch
from torch import nn

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.weights.load import Load, LoadReport
from ssltyped.weights.pretrained import Pretrained, pretrained_in
from ssltyped.weights.recognise import as_overrides
from ssltyped.weights.stored import Stored, read_stored


def show(path: Path) -> str:
    """What is at `path`, into which trunk of ours it fits, and what `Load` makes of it. Raises `ConfigError`."""
    stored = read_stored(path)
    lines = [str(path), *_rows(_of_file(stored))]
    try:
        found = pretrained_in(path, stored)
    except ConfigError as error:
        return "\n".join([*lines, *_rows({"fits": str(error.problems[0].message)})]) + "\n"
    return "\n".join([*lines, *_rows(_of_trunk(path, found, stored))]) + "\n"


def _of_file(stored: Stored) -> dict[str, str]:
    parts = Counter(name.partition(".")[0] for name in stored.tensors)
    values = sum(value.numel() for value in stored.tensors.values())
    held = ", ".join(f"{name} {count}" for name, count in parts.most_common(8)) + (", ..." if len(parts) > 8 else "")
    said = {key: value for key, value in stored.said.items() if key not in ("trunk", "heads", "mean", "std")}
    told = [f"{key} {value}" for key, value in said.items()]
    return {"says": ", ".join(told), "holds": f"{len(stored.tensors)} tensors, {values:,} values: {held}"}


def _of_trunk(path: Path, found: Pretrained, stored: Stored) -> dict[str, str]:
    overrides = as_overrides(found.trunk, "trunk")
    load = ["+init=Load", *(text.replace("load.", "init.0.") for text in as_overrides(found.load, "load")[1:])]
    images = f"{found.image_size} pixels, mean {_numbers(found.mean)}, std {_numbers(found.std)}"
    return {
        "is": found.origin,
        "fits": " ".join([*overrides, *load]),
        **({"left open": "; ".join(f"{name} ({why})" for name, why in found.assumed.items())} if found.assumed else {}),
        "images": images,
        "loads": str(report_of(found, stored)),
    }


def report_of(found: Pretrained, stored: Stored) -> LoadReport:
    """What would be filled of its trunk."""
    with torch.device("meta"):
        trunk: nn.Module = config.build(found.trunk)
    load: Load = config.build(found.load)
    return load.load(nn.ModuleDict({"trunk": trunk}), stored)


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ",".join(f"{value:g}" for value in values) + "]"


def _rows(rows: dict[str, str]) -> list[str]:
    return [f"  {name:<10} {text}" for name, text in rows.items() if text]

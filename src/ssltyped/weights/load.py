"""Starting from weights: a file into a part of the model, and an account of what went where."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor, nn

from ssltyped.config import ConfigError, config_for, raised_by
from ssltyped.config.hints import nearest
from ssltyped.model.files import about_of, read_file
from ssltyped.types import Component, Problem, as_named, named
from ssltyped.weights.layout import Layout
from ssltyped.weights.vissl import checkpoint_entries, trunk_layout

_VISSL = "VISSL"
_SHOWN = 5
"""Names that a report gives of each kind."""


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a file filled of a part.

    Args:
        into: the part; "" is the whole model.
        path: the file.
        whose: "student" or "teacher" of a run of ours, "VISSL", or "" if the file does not say.
        matched: entries of the part that the file fills.
        missing: entries that it does not have.
        unexpected: its entries below the prefix that have no place in the part.
        shapes: entries whose shapes differ, with both.
        share: of the part's parameters that are filled, counted by their values, in [0, 1].
    """

    into: str
    path: Path
    whose: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]
    share: float

    def __str__(self) -> str:
        entries = len(self.matched) + len(self.missing) + len(self.shapes)
        text = f"{self.into or 'the model'} from {self.path}{self.whose and f' ({self.whose})'}"
        text += f": {len(self.matched)} of {entries} tensors"
        text += f", {self.share:.1%} of the parameters"
        for kind, names in (("missing", self.missing), ("without a place", self.unexpected), ("shapes", self.shapes)):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                text += f"; {kind}: {', '.join(names[:_SHOWN])}{more}"
        return text


class Load(Component):
    """Fills a part of the model, or of the method, before the first step; a run that goes on is not touched by it.

    What can be read: a `weights.pt` of ours, the folder of a finished run, a checkpoint (its folder), a state dict of
    PyTorch, and for the trunk a file of VISSL's, recognised by what is in it. Nothing in a file is executed. A run's
    folder gives what its method is for, such as a teacher, a checkpoint the student unless `prefix` says otherwise. It
    is refused if it does not fill all of the part, or has more below `prefix` than fits, but for what is named here.

    Args:
        path: the file or folder.
        into: the part: trunk, heads.projector, loss.predictor ...; "" is the whole model.
        prefix: what the part's names start with in the file, without the last dot; null: the name of the part.
        may_miss: names below the part, or what they start with, that the file need not have.
        may_leave: names below the prefix, or what they start with, that need no place in the part.
    """

    def __init__(
        self,
        *,
        path: Path,
        into: str = "trunk",
        prefix: Optional[str] = None,
        may_miss: list[str] = [],  # noqa: B006  # never changed; a config shows it as a list
        may_leave: list[str] = [],  # noqa: B006
    ) -> None:
        self.path, self.into, self.prefix = path, into, prefix
        self.may_miss, self.may_leave = list(may_miss), list(may_leave)

    def __call__(self, root: nn.Module) -> LoadReport:
        """Fill the part of `root` (on the meta device: see what would be filled). Raises `ConfigError`."""
        try:
            part = named(root, self.into) if self.into else root
        except ValueError as error:
            raise ConfigError([Problem("into", str(error))]) from error
        if not isinstance(part, nn.Module):
            raise ConfigError([Problem("into", f"got {self.into!r}, a single parameter: name the module that has it")])
        theirs, whose = self._entries(part)
        ours = part.state_dict()
        report = self._report(part, ours, theirs, whose)
        missing = [name for name in report.missing if not _among(name, self.may_miss)]
        left = [name for name in report.unexpected if not _among(name, self.may_leave)]
        if missing or left or report.shapes:
            advice = "name in may_miss what the file need not have, and in may_leave what may stay in it"
            raise ConfigError([Problem("", f"does not fill the part: {report}; {advice}")])
        with torch.no_grad():
            for name in report.matched:
                if not ours[name].is_meta:
                    ours[name].copy_(theirs[name])
        return report

    def _report(
        self, part: nn.Module, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], whose: str
    ) -> LoadReport:
        there = [name for name in ours if name in theirs]
        fits = [name for name in there if ours[name].shape == theirs[name].shape]
        sizes = {name: parameter.numel() for name, parameter in part.named_parameters()}
        return LoadReport(
            into=self.into,
            path=self.path,
            whose=whose,
            matched=tuple(fits),
            missing=tuple(name for name in ours if name not in theirs),
            unexpected=tuple(name for name in theirs if name not in ours),
            shapes=tuple(f"{n} {tuple(theirs[n].shape)} for {tuple(ours[n].shape)}" for n in there if n not in fits),
            share=sum(size for name, size in sizes.items() if name in fits) / max(1, sum(sizes.values())),
        )

    def _entries(self, part: nn.Module) -> tuple[dict[str, Tensor], str]:
        """What the file has for the part, by our names below it, and whose it is."""
        found, whose = self._read()
        if whose != _VISSL:
            place, whose = (self.into, whose) if self.prefix is None else (self.prefix, "")
            return _below(found, place), whose
        try:
            layout = trunk_layout(part)
        except ValueError as error:
            advice = "is VISSL's, of which the trunk can be read: into=trunk, with a trunk that VISSL has"
            raise self._wrong(advice) from error
        return _by_our_names(part, layout, _below(found, "trunk" if self.prefix is None else self.prefix)), _VISSL

    def _read(self) -> tuple[Mapping[str, Tensor], str]:
        """Tensors by name, and whose they are."""
        file = self.path
        if not file.exists():
            raise self._wrong("does not exist")
        if file.is_dir():
            known = [file / name for name in ("state.pt", "weights.pt") if (file / name).exists()]
            if not known:
                raise self._wrong("is neither a checkpoint (state.pt) nor the folder of a finished run (weights.pt)")
            file = known[0]
        try:
            state = read_file(file)
            entries = state if isinstance(state, Mapping) else {}
            if "classy_state_dict" in entries:
                return checkpoint_entries(state), _VISSL
        except ValueError as error:
            raise self._wrong(str(error)) from error
        whose = str(about_of(state).get("product", ""))
        if isinstance(entries.get("module"), Mapping):  # a checkpoint of ours
            whose, entries = "student", {as_named(str(name)): value for name, value in entries["module"].items()}
        tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        if not tensors:
            raise self._wrong("holds no tensors by name")
        return tensors, whose

    def _wrong(self, message: str) -> ConfigError:
        return ConfigError([Problem("path", f"{self.path} {message}")])


LoadConf = config_for(Load)


def start_from(loads: Sequence[Load], root: nn.Module, *, of_loss: bool) -> list[LoadReport]:
    """Fill the parts of the model, or those of the method, that these name; errors name the entry of `init`."""
    reports: list[LoadReport] = []
    for number, load in enumerate(loads):
        if (load.into.partition(".")[0] == "loss") is of_loss:
            with raised_by(f"init.{number}"):
                reports.append(load(root))
    return reports


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below a prefix. Raises `ConfigError` if there is none, with what the names start with."""
    start = f"{prefix}." if prefix else ""
    found = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
    if not found:
        starts = sorted({".".join(name.split(".")[: prefix.count(".") + 1]) for name in tensors})
        raise ConfigError([Problem("prefix", f"nothing in the file starts with {prefix!r}{nearest(prefix, starts)}")])
    return found


def _by_our_names(trunk: nn.Module, layout: Layout, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of another layout by our names and in our shapes; what only they have is left out, as it is known."""
    ours = trunk.state_dict()
    names = {layout.name(name): name for name in ours}
    extras = layout.extras(trunk)
    found = {names.get(name, name): value for name, value in theirs.items() if name not in extras}
    fits = {name for name, value in found.items() if name in ours and value.numel() == ours[name].numel()}
    return {name: value.reshape(ours[name].shape) if name in fits else value for name, value in found.items()}


def _among(name: str, allowed: Sequence[str]) -> bool:
    """Whether a name, or something that it is below, is among these."""
    return any(name == one or name.startswith(f"{one}.") for one in allowed)

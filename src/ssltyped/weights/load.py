"""Starting from weights: a file into a part of the model, and an account of what went where."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor, nn

from ssltyped.config import ConfigError, config_for, raised_by
from ssltyped.config.hints import listed, nearest
from ssltyped.types import Component, Problem, Trunk, as_named, named
from ssltyped.weights.fit import Fit, below, equally_good, fits
from ssltyped.weights.stored import OURS, VISSL, Stored, read_stored
from ssltyped.weights.vissl_fit import heads_found

_SHOWN = 5
"""Names that a report gives of each kind."""


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a file filled of a part.

    Args:
        into: the part; "" is the whole model.
        path: the file.
        whose: "student" or "teacher" of a run of ours, else whose names these are and what stands before them in the
            file, or "" if that is not known.
        matched: entries of the part that the file fills.
        missing: entries that it does not have.
        unexpected: its entries below the prefix that have no place in the part.
        shapes: entries whose shapes differ, with both.
        share: of the part's parameters that are filled, counted by their values, in [0, 1]; without those in `absent`.
        absent: entries that the format of the file does not have: they stay as they start.
        beside: entries of the file that are known to be something else, such as a classifier.
        resized: entries that were interpolated from another size, and how.
    """

    into: str
    path: Path
    whose: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]
    share: float
    absent: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()

    def __str__(self) -> str:
        entries = len(self.matched) + len(self.missing) + len(self.shapes)
        text = f"{self.into or 'the model'} from {self.path}{self.whose and f' ({self.whose})'}"
        text += f": {len(self.matched)} of {entries} tensors"
        text += f", {self.share:.1%} of the parameters"
        for kind, names in (
            ("missing", self.missing),
            ("without a place", self.unexpected),
            ("shapes", self.shapes),
            ("interpolated", self.resized),
            ("not in this format", tuple(name for name in self.absent if not name.endswith("num_batches_tracked"))),
            ("left in the file", tuple(dict.fromkeys(name.partition(".")[0] for name in self.beside))),
        ):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                text += f"; {kind}: {', '.join(names[:_SHOWN])}{more}"
        return text

    @property
    def fits(self) -> bool:
        """Whether the file fills all of the part, and has nothing else below its prefix."""
        return not (self.missing or self.unexpected or self.shapes)


class Load(Component):
    """Fills a part of the model, or of the method, before the first step; a run that goes on is not touched by it.

    What can be read, recognised by the names in it: a `weights.pt` of ours, the folder of a finished run, a checkpoint
    (its folder), exports of ours; a trunk from files of torchvision, timm, Hugging Face, VISSL, ClassyVision, Caffe2,
    detectron2 and of the published methods, trunk and heads from VISSL's. Nothing in a file is executed. A run's folder
    gives what its method is for, such as a teacher, a checkpoint the student unless `prefix` says otherwise. Positions
    and patches of another size are interpolated. It is refused if it does not fill all of the part, or has more below
    `prefix` than fits, but for what is named here and for classifiers and other parts that stand beside a trunk.

    Args:
        path: the file or folder.
        into: the part: trunk, heads.projector, loss.predictor ...; "" is the whole model.
        key: the entry of the file that has the tensors, such as model_ema, with dots for one in another; null: found.
        prefix: what the part's names start with in the file, without the last dot; null: found, or the name of the
            part.
        append_prefix: what is put before the names once `prefix` is taken off, without the last dot; null: nothing.
        skip: names below the part, or parts of such names, that stay as they start although the file has them.
        may_miss: names below the part, or what they start with, that the file need not have.
        may_leave: names below the prefix, or what they start with, that need no place in the part.
    """

    def __init__(
        self,
        *,
        path: Path,
        into: str = "trunk",
        key: Optional[str] = None,
        prefix: Optional[str] = None,
        append_prefix: Optional[str] = None,
        skip: list[str] = [],  # noqa: B006  # never changed; a config shows it as a list
        may_miss: list[str] = [],  # noqa: B006
        may_leave: list[str] = [],  # noqa: B006
    ) -> None:
        self.path, self.into, self.key, self.prefix, self.append_prefix = path, into, key, prefix, append_prefix
        self.skip, self.may_miss, self.may_leave = list(skip), list(may_miss), list(may_leave)

    def __call__(self, root: nn.Module) -> LoadReport:
        """Fill the part of `root` (on the meta device: see what would be filled). Raises `ConfigError`."""
        return self.load(root, read_stored(self.path))

    def load(self, root: nn.Module, stored: Stored) -> LoadReport:
        """The same from what has been read of `path`."""
        part = self._part(root)
        ours = part.state_dict()
        fit = self._fit(root, part, stored)
        report = self._report(part, ours, fit)
        missing = [name for name in report.missing if not _among(name, self.may_miss)]
        left = [name for name in report.unexpected if not _among(name, self.may_leave)]
        if missing or left or report.shapes:
            advice = "name in may_miss what the file need not have, and in may_leave what may stay in it"
            raise ConfigError([Problem("", f"does not fill the part: {report}; {advice}")])
        with torch.no_grad():
            for name in report.matched:
                if not ours[name].is_meta:
                    ours[name].copy_(fit.entries[name])
        return report

    def _part(self, root: nn.Module) -> nn.Module:
        try:
            part = named(root, self.into) if self.into else root
        except ValueError as error:
            raise ConfigError([Problem("into", str(error))]) from error
        if not isinstance(part, nn.Module):
            raise ConfigError([Problem("into", f"got {self.into!r}, a single parameter: name the module that has it")])
        return part

    def _report(self, part: nn.Module, ours: Mapping[str, Tensor], fit: Fit) -> LoadReport:
        there = [name for name in ours if name in fit.entries and not self._skips(name)]
        equal = [name for name in there if ours[name].shape == fit.entries[name].shape]
        sizes = {name: value.numel() for name, value in part.named_parameters() if name not in fit.absent}
        shapes = ((name, tuple(fit.entries[name].shape), tuple(ours[name].shape)) for name in there)
        return LoadReport(
            into=self.into,
            path=self.path,
            whose=fit.source,
            matched=tuple(equal),
            missing=tuple(n for n in ours if n not in fit.entries and n not in fit.absent and not self._skips(n)),
            unexpected=tuple(name for name in fit.rest if not self._skips(name)),
            shapes=tuple(f"{name} {theirs} for {own}" for name, theirs, own in shapes if name not in equal),
            share=sum(size for name, size in sizes.items() if name in equal) / max(1, sum(sizes.values())),
            absent=fit.absent,
            beside=fit.beside,
            resized=fit.resized,
        )

    def _skips(self, name: str) -> bool:
        return any(part in name for part in self.skip)

    def _fit(self, root: nn.Module, part: nn.Module, stored: Stored) -> Fit:
        """What the file has for the part, by our names below it."""
        tensors = stored.tensors
        for field, start in (("key", self.key), ("prefix", self.prefix)):
            if start:
                tensors = _below(tensors, start, field)
        if self.append_prefix:
            tensors = {f"{self.append_prefix}.{name}": value for name, value in tensors.items()}
        given = self.prefix is not None or self.append_prefix is not None
        place = "" if given or not self.into else f"{self.into}."
        own = below(tensors, place)
        ours = part.state_dict()
        entries = {name: value for name, value in own.items() if name in ours}
        rest = tuple(name for name in own if name not in ours)
        plain = bool(entries) and stored.kind != VISSL and not (given and self._known(root, tensors, len(entries)))
        if stored.kind == OURS or plain:
            if not own:
                raise _nothing("prefix", self.into, tensors)
            return Fit(entries, rest, source="" if given else stored.whose)
        return self._recognised(root, tensors, stored.kind)

    def _known(self, root: nn.Module, tensors: Mapping[str, Tensor], own: int) -> bool:
        """Whether the names of a library, of which more is known, fill as much of a trunk as `own` names of ours."""
        trunks = ((trunk.state_dict(), fits(trunk, tensors, "")) for _, trunk in self._trunks(root))
        return any(found and found[0].matches(ours) >= own for ours, found in trunks)

    def _recognised(self, root: nn.Module, tensors: Mapping[str, Tensor], kind: str) -> Fit:
        """The trunk, and from VISSL's files the heads, under the names of somebody else."""
        whole = Fit({})
        for path, trunk in self._trunks(root):
            found = fits(trunk, tensors, kind)
            if not found:
                raise ConfigError([Problem("path", self._strange(trunk, tensors))])
            if len(several := equally_good(found, trunk)) > 1:
                names = ", ".join(repr(prefix.rstrip(".")) for prefix in several)
                raise ConfigError([Problem("prefix", f"{self.path} has several networks that fit: say one of {names}")])
            whole = _joined(whole, _at(found[0], f"{path}.", self.into))
        if kind == VISSL and self.into.partition(".")[0] in ("", "heads"):
            heads = heads_found(root, below(tensors, "heads."))
            fit = Fit(heads.entries, heads.rest, source=VISSL)
            whole = _joined(whole, _at(fit, "", self.into))
        if not whole.source:
            advice = "the trunk can be read, and of VISSL's files the heads: into=trunk"
            raise ConfigError([Problem("path", f"{self.path} has no names of ours for {self.into or 'it'}; {advice}")])
        return whole

    def _trunks(self, root: nn.Module) -> Iterator[tuple[str, Trunk]]:
        """The trunk that the part is, or is a piece of, or has."""
        for path, module in root.named_modules():
            name = as_named(path)
            meant = _within(name, self.into) or _within(self.into, name) if self.into else name == "trunk"
            if isinstance(module, Trunk) and meant:
                yield name, module

    def _strange(self, trunk: Trunk, tensors: Mapping[str, Tensor]) -> str:
        starts = listed(list(dict.fromkeys(name.partition(".")[0] for name in tensors)), 8)
        seen = f"`python -m ssltyped.weights show {self.path}` says what it is"
        return (
            f"{self.path} has no {type(trunk).__name__} that is known by its names, which start with {starts}; {seen}"
        )


LoadConf = config_for(Load)


def start_from(loads: Sequence[Load], root: nn.Module, *, of_loss: bool) -> list[LoadReport]:
    """Fill the parts of the model, or those of the method, that these name; errors name the entry of `init`."""
    reports: list[LoadReport] = []
    for number, load in enumerate(loads):
        if (load.into.partition(".")[0] == "loss") is of_loss:
            with raised_by(f"init.{number}"):
                reports.append(load(root))
    return reports


def _at(fit: Fit, path: str, into: str) -> Fit:
    """A fit of a module at `path`, seen from the part `into`: its names below that."""
    start = f"{into}." if into else ""

    moved = {name: (path + name).removeprefix(start) for name in [*fit.entries, *fit.absent]}
    inside = {name: new for name, new in moved.items() if (path + name).startswith(start)}
    return dataclasses.replace(
        fit,
        entries={inside[name]: value for name, value in fit.entries.items() if name in inside},
        absent=tuple(inside[name] for name in fit.absent if name in inside),
        rest=fit.rest if path.startswith(start) or (not path and into == "heads") else (),
    )


def _joined(one: Fit, other: Fit) -> Fit:
    return Fit(
        {**one.entries, **other.entries},
        one.rest + other.rest,
        one.beside + other.beside,
        one.absent + other.absent,
        one.resized + other.resized,
        "; ".join(dict.fromkeys(filter(None, (one.source, other.source)))),
    )


def _below(tensors: Mapping[str, Tensor], start: str, field: str) -> dict[str, Tensor]:
    """The entries below a name in the file. Raises `ConfigError` if there is none, with what the names start with."""
    found = below(tensors, f"{start}.")
    if not found:
        raise _nothing(field, start, tensors)
    return found


def _nothing(field: str, start: str, tensors: Mapping[str, Tensor]) -> ConfigError:
    starts = sorted({".".join(name.split(".")[: start.count(".") + 1]) for name in tensors})
    return ConfigError([Problem(field, f"nothing in the file starts with {start!r}{nearest(start, starts)}")])


def _among(name: str, allowed: Sequence[str]) -> bool:
    """Whether a name, or something that it is below, is among these."""
    return any(_within(name, one) for one in allowed)


def _within(name: str, path: str) -> bool:
    """Whether a name is this one or below it."""
    return name == path or name.startswith(f"{path}.")

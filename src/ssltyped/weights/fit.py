"""What of a file fits a module: under which names, below which prefix, and what is left."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from ssltyped.types import Trunk
from ssltyped.weights.layout import Layout
from ssltyped.weights.resize import resized
from ssltyped.weights.schemes import SCHEMES, Library, Scheme, family_of
from ssltyped.weights.vissl_trunks import LAYOUTS

_LATER = re.compile(r"(^|[._])(student\w*|encoder_k|\w*momentum\w*|target\w*|ema|\w+_ema)(?=\.)")
"""Copies of a network in the same file that are not the one that the method is for."""

SOURCES: Sequence[tuple[str, str]] = (
    (r"(^|\.)encoder_q\.", "MoCo"),
    (r"(^|\.)base_encoder\.", "MoCo v3"),
    (r"(^|\.)online_(network|encoder)\.", "BYOL"),
    (r"^(teacher|student)\..*masked_embed$", "iBOT"),
    (r"^(teacher|student)\.", "DINO"),
    (r"(^|\.)decoder_blocks\.", "MAE"),
    (r"(^|\.)prototypes\d*\.", "SwAV"),
    (r"(^|\.)projector\.\d+\.", "Barlow Twins"),
    (r"(^|\.)encoder\.fc\.\d+\.", "SimSiam"),
    (r"(^|\.)(backbone_momentum|teacher_backbone|student_backbone)\.", "lightly"),
    (r"(^|\.)momentum_backbone\.", "solo-learn"),
)
"""Methods by names in their published files; the first that is found is said."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a file has for a module of ours.

    Args:
        entries: theirs by our names, in our shapes where they could be brought to these.
        rest: names of theirs that have no place, below the same prefix.
        beside: names of theirs that are known to be no part of the module, such as a classifier.
        absent: entries of ours that their format does not have.
        resized: what was interpolated, and how.
        source: whose names these are, and what stands before them in the file.
        prefix: what stands before them.
    """

    entries: Mapping[str, Tensor]
    rest: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    source: str = ""
    prefix: str = ""

    def matches(self, ours: Mapping[str, Tensor]) -> int:
        """How many entries have their shapes."""
        return sum(value.shape == ours[name].shape for name, value in self.entries.items())


def anchored(scheme: Scheme, names: Sequence[str]) -> list[str]:
    """What stands before the names of a scheme in a file, wherever it has such a network."""
    if scheme.needs and not any(re.search(scheme.needs, name) for name in names):
        return []
    anchor = scheme.anchor
    return [name.removesuffix(anchor) for name in names if name == anchor or name.endswith(f".{anchor}")]


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries that start so, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def fits(trunk: nn.Module, tensors: Mapping[str, Tensor], kind: str) -> list[Fit]:
    """Every way to read a trunk from the tensors of a file, the best first, and among equal ones what is meant."""
    ours = trunk.state_dict()
    names, method = list(tensors), source_of(tensors)
    found: list[Fit] = []
    for scheme in _schemes(trunk):
        for prefix in anchored(scheme, names):
            fit = fit_of(trunk, scheme, below(tensors, prefix))
            library = kind or (method if method and prefix else scheme.library.value)
            place = f": {prefix.rstrip('.')}" if prefix else ""
            found.append(dataclasses.replace(fit, source=library + place, prefix=prefix))
    return sorted(found, key=lambda fit: (-_explained(fit, ours), bool(_LATER.search(fit.prefix)), len(fit.rest)))


def equally_good(found: Sequence[Fit], trunk: nn.Module) -> list[str]:
    """The prefixes of the networks in a file between which nothing says which one is meant."""
    ours = trunk.state_dict()
    rank = [(_explained(fit, ours), bool(_LATER.search(fit.prefix))) for fit in found]
    best = [fit.prefix for fit, one in zip(found, rank, strict=True) if one == rank[0]]
    return [prefix for i, prefix in enumerate(best) if not any(_nested(prefix, other) for other in best[:i])]


def _explained(fit: Fit, ours: Mapping[str, Tensor]) -> int:
    """Entries of ours that are there, or that their format does not have."""
    return fit.matches(ours) + len(fit.absent)


def _nested(one: str, other: str) -> bool:
    """Whether these stand before the same network, read by two schemes."""
    return one.startswith(other) or other.startswith(one)


def fit_of(trunk: nn.Module, scheme: Scheme, theirs: Mapping[str, Tensor]) -> Fit:
    """What entries under the names of a scheme have for a trunk."""
    ours, found = trunk.state_dict(), scheme.layout_of(trunk).find(trunk, theirs)
    entries, notes = dict(found.entries), []
    for name, value in found.entries.items():
        if value.shape != ours[name].shape and (made := resized(name, value, ours[name].shape)):
            entries[name] = made[0]
            notes.append(made[1])
    beside = tuple(name for name in found.rest if re.search(scheme.others, name))
    rest = tuple(name for name in found.rest if name not in beside)
    return Fit(entries, rest, beside, found.absent, tuple(notes))


def source_of(tensors: Mapping[str, Tensor]) -> str:
    """The method in whose published files such names are; "" if none is known."""
    return next((who for pattern, who in SOURCES if any(re.search(pattern, name) for name in tensors)), "")


def _schemes(trunk: nn.Module) -> Iterator[Scheme]:
    """The names that a trunk may have in a file: of its family, VISSL's, and its own."""
    family = family_of(trunk)
    if isinstance(trunk, Trunk) and type(trunk).__name__ in LAYOUTS and family:
        layout = LAYOUTS[type(trunk).__name__](trunk)
        if family not in {scheme.family for scheme in SCHEMES}:
            yield Scheme(Library.VISSL, family, _first(layout, trunk), layout, r"(?!)")
    yield from (scheme for scheme in SCHEMES if scheme.family == family)
    for layout in (Layout(), Layout(renames=[(r"^model\.", "")])):
        yield Scheme(Library.SSLTYPED, family, _first(layout, trunk), layout)


def _first(layout: Layout, trunk: nn.Module) -> str:
    """One of their names: that of the first entry."""
    return next(iter(layout.export(trunk)), "")

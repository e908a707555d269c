"""What a file of weights is: whose names it has, and the trunk of ours that has tensors of these shapes."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ssltyped import config
from ssltyped.config.generate import children, is_config, join, part_of
from ssltyped.config.grammar import quoted
from ssltyped.config.hints import plain
from ssltyped.trunks.base import InputColor
from ssltyped.types import Trunk
from ssltyped.weights.families import Config, configs
from ssltyped.weights.fit import Fit, anchored, below, fits
from ssltyped.weights.layout import Layout
from ssltyped.weights.schemes import SCHEMES, Library, Scheme
from ssltyped.weights.stored import VISSL, Stored

_EPS = {
    (Library.HUGGING_FACE, "VisionTransformer"): "1e-6 to variances, where ViT's config may say 1e-12",
    (Library.TIMM, "ConViT"): "1e-5 to variances, where timm's add 1e-6",
}
"""What our norms add that those of a library do not."""


@dataclasses.dataclass(frozen=True)
class Recognised:
    """A trunk in a file.

    Args:
        trunk: its config.
        assumed: fields of it that the file leaves open, with the reason for their values.
        fit: what the file has for it.
        complete: whether the file fills all of it, and has nothing else below the same prefix.
    """

    trunk: Trunk
    assumed: Mapping[str, str]
    fit: Fit
    complete: bool


def recognise(stored: Stored) -> Recognised | None:
    """The trunk of ours that the tensors of a file fit best; None where no known name is among them."""
    found = sorted(_candidates(stored), key=lambda one: (not one.complete, -len(one.fit.entries)))
    return found[0] if found else None


def _candidates(stored: Stored) -> Iterator[Recognised]:
    """Every config of every family that some of the names may be of; none after one that is complete."""
    for scheme in SCHEMES:
        for prefix in anchored(scheme, list(stored.tensors)):
            theirs = below(stored.tensors, prefix)
            layout = scheme.layout if isinstance(scheme.layout, Layout) else Layout()
            for one in configs(scheme.family, layout, theirs, stored.num_heads):
                made = _tried(_as_they_build(one, scheme), stored)
                if made is not None:
                    yield made
                    if made.complete:
                        return


def _tried(one: Config, stored: Stored) -> Recognised | None:
    with torch.device("meta"):
        trunk: nn.Module = config.build(one.trunk)
    found = fits(trunk, stored.tensors, stored.kind if stored.kind == VISSL else "")
    if not found:
        return None
    ours, fit = trunk.state_dict(), found[0]
    complete = fit.matches(ours) + len(fit.absent) == len(ours) and not fit.rest
    return Recognised(one.trunk, one.assumed, fit, complete)


def _as_they_build(one: Config, scheme: Scheme) -> Config:
    """With what a library builds its networks with and no tensor shows."""
    trunk, fields, why = one.trunk, dict[str, object](), dict(one.assumed)
    if scheme.library is Library.CAFFE2 and config.get(trunk, "input.color") is InputColor.RGB:
        fields["input.color"], why["input.color"] = InputColor.BGR, "bgr: Caffe2's networks read images by OpenCV"
    if eps := _EPS.get((scheme.library, scheme.family)):
        why["norms"] = f"add {eps}: features differ by rounding where a token varies as usual"
    if scheme.family == "EfficientNet" and scheme.library in (Library.TORCHVISION, Library.TIMM):
        large = config.get(trunk, "version").value >= "B5" and scheme.library is Library.TORCHVISION
        fields |= {"bn_epsilon": 1e-3, "bn_momentum": 0.01} if large else {"bn_epsilon": 1e-5, "bn_momentum": 0.1}
        why["bn_epsilon"] = f"{fields['bn_epsilon']:g}, as {scheme.library.value} builds it"
    return Config(config.replaced(trunk, fields), why)


def as_overrides(part: object, path: str) -> Sequence[str]:
    """A config as what is written on the command line: its class, and its fields that are not as the class has them."""
    return [f"{path}={part_of(part).name}", *_changed(part, path)]


def _changed(part: object, path: str) -> Iterator[str]:
    for name, value in children(part):
        default = part_of(part).parameters[name].default
        if is_config(value):
            yield from _changed(value, join(path, name))
        elif plain(value) != plain(default):
            yield as_override(join(path, name), value)


def as_override(path: str, value: object) -> str:
    """An override as a shell takes it; a text with signs that the grammar reads is in quotes."""
    if isinstance(value, str | Path) and re.search(r"[^\w./+-]", str(value)):
        return quoted(f"{path}={value}") or f"{path}={value}"
    return f"{path}={plain(value)}".replace(", ", ",")

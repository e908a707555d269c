"""The model: a trunk and heads, and which head reads which feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.hints import nearest
from ssltyped.types import Features, Head, Trunk


class SSLModel(nn.Module):
    """Views of the same images to one output a head, rows ordered [all B of view 0; all B of view 1; ...].

    Consecutive views of equal height and width share one pass through the trunk; the heads run once, on the rows
    of all views. Head i reads `features[i]`; with one feature every head reads it; without heads the features
    themselves are the output.

    Raises:
        ValueError: no feature, a feature that the trunk does not have, numbers of heads and features that do not
            fit, or a head whose `in_dim` is not the width of its feature; all that is wrong in one message.

    Args:
        trunk: images to features.
        heads: features to what the loss wants.
        features: names of the trunk's features, one a head or one for all.
    """

    def __init__(self, *, trunk: Trunk, heads: Sequence[Head], features: Sequence[str]) -> None:
        super().__init__()
        if mistakes := list(_mistakes(trunk, heads, features)):
            raise ValueError("the model cannot be wired: " + "; ".join(mistakes))
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)
        self.features = list(features)

    def forward(self, views: Sequence[Float[Tensor, "B C _ _"]]) -> list[Tensor]:
        names = list(dict.fromkeys(self.features))
        passes = [self.trunk(_joined(same), names) for same in _runs_of_equal_size(views)]
        rows = dict(zip(names, _concatenated(passes, names), strict=True))
        if not self.heads:
            return [rows[name] for name in self.features]
        return [
            head(rows[name]) for head, name in zip(self.heads, _feature_of_head(self.heads, self.features), strict=True)
        ]

    def extract(self, images: Float[Tensor, "B C H W"], feature: str) -> Float[Tensor, "B D"]:
        """One feature of the trunk, flattened, without heads: what evaluations work on.

        Raises:
            ValueError: the trunk has no such feature.
        """
        if mistake := _unknown(self.trunk, feature):
            raise ValueError(mistake)
        (out,) = self.trunk(images, [feature])
        return torch.flatten(out, 1)


def _mistakes(trunk: Trunk, heads: Sequence[Head], features: Sequence[str]) -> Iterator[str]:
    """Everything that is wrong with the wiring."""
    if not features:
        yield f"no feature is asked for{nearest('', list(trunk.feature_dims))}"
    yield from filter(None, (_unknown(trunk, name) for name in dict.fromkeys(features)))
    if heads and len(features) not in (0, 1, len(heads)):
        yield f"{len(heads)} heads and {len(features)} features: give one feature for all heads, or one a head"
        return
    for number, (head, name) in enumerate(zip(heads, _feature_of_head(heads, features), strict=False)):
        width = trunk.feature_dims.get(name)
        if width is not None and head.in_dim not in (None, width):
            yield f"head {number} ({type(head).__name__}) has in_dim {head.in_dim}, but {name!r} is {width} wide"


def _feature_of_head(heads: Sequence[Head] | nn.ModuleList, features: Sequence[str]) -> list[str]:
    return list(features) * len(heads) if len(features) == 1 else list(features)


def _unknown(trunk: Trunk, name: str) -> str:
    known = list(trunk.feature_dims)
    return "" if name in known else f"{type(trunk).__name__} has no feature {name!r}{nearest(name, known)}"


def _runs_of_equal_size(views: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive views of equal height and width."""
    return (list(run) for _, run in groupby(views, key=lambda view: view.shape[-2:]))


def _concatenated(passes: Sequence[Features], names: Sequence[str]) -> Iterator[Tensor]:
    """The rows of all passes, a tensor a feature."""
    for name, parts in zip(names, zip(*passes, strict=True), strict=True):
        shapes = {tuple(part.shape[1:]) for part in parts}
        if len(shapes) > 1:
            raise ValueError(
                f"feature {name!r} has the shapes {sorted(shapes)} for views of different sizes; ask for a pooled one"
            )
        yield _joined(parts)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts; of a single part without a copy."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]

"""The model: a trunk and heads, and which head reads which feature of which input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import accumulate, groupby, pairwise
from types import MappingProxyType
from typing import Optional

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config.hints import nearest
from ssltyped.model.freeze import hold
from ssltyped.types import Features, Head, MaskedTrunk, Trunk


class Passes(Enum):
    """What goes through the trunk at once: consecutive views of one size, or one view."""

    SIZE = "size"
    VIEW = "view"


def mistakes(
    trunk: Trunk, heads: Sequence[Head], features: Sequence[str], inputs: Sequence[str], views_of: Mapping[str, int]
) -> Iterator[str]:
    """Everything that is wrong with the wiring."""
    if not features:
        yield f"no feature is asked for{nearest('', list(trunk.feature_dims))}"
    yield from filter(None, (unknown(trunk, name) for name in dict.fromkeys(features)))
    yield from (wrong for _, wrong in wrong_counts(len(heads), features, inputs, views_of))
    for number, (head, name) in enumerate(zip(heads, _each(features, len(heads)), strict=False)):
        width = trunk.feature_dims.get(name)
        if width is not None and head.in_dim not in (None, width):
            yield f"head {number} ({type(head).__name__}) has in_dim {head.in_dim}, but {name!r} is {width} wide"


def wrong_counts(
    heads: int, features: Sequence[str], inputs: Sequence[str], views_of: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """Numbers of heads, features and inputs that do not fit; inputs that are unknown, or that no head reads.

    Which of "features" and "inputs" is wrong, and how.
    """
    for kind, names in (("features", features), ("inputs", inputs)):
        if heads and len(names) not in (0, 1, heads):
            yield kind, f"{len(names)} {kind} for {heads} heads: give one {kind[:-1]}, or one for each head"
    if not heads and len(inputs) not in (0, 1, len(features)):
        yield "inputs", f"{len(inputs)} inputs for {len(features)} features: give one input, or one for each feature"
    known = list(views_of)
    if not inputs and len(known) > 1 and heads:
        yield "inputs", f"the data makes the inputs {', '.join(known)}: say in `inputs` which one each head reads"
    for name in dict.fromkeys(inputs):
        if name not in known:
            yield "inputs", f"the data makes no input {name!r}{nearest(name, known)}"
    for name in known if inputs else ():
        if name not in inputs:
            yield "inputs", f"no head reads the input {name!r}: the data makes {views_of[name]} views for it in vain"


class SSLModel(nn.Module):
    """Views of the same images to the outputs of the heads, rows ordered [all B of view 0; all B of view 1; ...].

    Consecutive views of equal height and width share one pass through the trunk (`passes`); the heads run once, on the
    rows of all views of the input that they read. Head i reads `features[i]` of `inputs[i]`; with one feature every
    head reads it; without heads the features themselves are the output. A head of several outputs gives them in a row.

    Raises:
        ValueError: no feature, a feature that the trunk does not have, numbers of heads, features and inputs that do
            not fit, a head whose `in_dim` is not the width of its feature, or a name in `frozen` that nothing has;
            all that is wrong in one message.

    Args:
        trunk: images to features.
        heads: features to what the loss wants.
        features: names of the trunk's features, one a head or one for all.
        inputs: names of the inputs, likewise; empty: every head reads all views.
        views_of: the number of consecutive views of each input, in order.
        passes: what goes through the trunk at once.
        frozen: names of modules or parameters that never learn, such as "trunk"; such modules stay in eval mode.
    """

    def __init__(
        self,
        *,
        trunk: Trunk,
        heads: Sequence[Head],
        features: Sequence[str],
        inputs: Sequence[str] = (),
        views_of: Mapping[str, int] = MappingProxyType({}),
        passes: Passes = Passes.SIZE,
        frozen: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if wrong := list(mistakes(trunk, heads, features, inputs, views_of)):
            raise ValueError("the model cannot be wired: " + "; ".join(wrong))
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)
        self.features, self.inputs = list(features), list(inputs)
        ends = [0, *accumulate(views_of.values())]
        self._slices = {name: slice(*ends) for name, ends in zip(views_of, pairwise(ends), strict=True)}
        self.passes = passes
        self._frozen = list(frozen)
        self.train()

    def train(self, mode: bool = True) -> SSLModel:
        super().train(mode)
        hold(self, self._frozen)  # by name: SyncBatchNorm takes the place of a frozen BatchNorm
        return self

    def forward(
        self,
        views: Sequence[Float[Tensor, "B C _ _"]],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        features: Sequence[str] = (),
    ) -> list[Tensor]:
        readers = len(self.heads) or len(features or self.features)
        read = _each(features or self.features, readers)
        if not self.inputs:
            rows = self._rows(views, masks, read)
            return self._outputs([rows[name] for name in read])
        if len(views) != (made := sum(part.stop - part.start for part in self._slices.values())):
            raise ValueError(f"the inputs {', '.join(self._slices)} are {made} views; the method shows {len(views)}")
        inputs = _each(self.inputs, readers)
        by_input = {
            name: self._rows(views[part], masks[part], [f for f, i in zip(read, inputs, strict=True) if i == name])
            for name, part in self._slices.items()
        }
        return self._outputs([by_input[name][feature] for name, feature in zip(inputs, read, strict=True)])

    def _outputs(self, features: Sequence[Tensor]) -> list[Tensor]:
        if not self.heads:
            return list(features)
        found: list[Tensor] = []
        for head, feature in zip(self.heads, features, strict=True):
            out = head(feature)
            found += [out] if isinstance(out, Tensor) else out
        return found

    def _rows(
        self, views: Sequence[Tensor], masks: Sequence[Optional[Tensor]], names: Sequence[str]
    ) -> dict[str, Tensor]:
        """The features of all views, by name."""
        names = list(dict.fromkeys(names))
        masks = masks or [None] * len(views)
        passes = [
            self._pass([view for view, _ in run], [mask for _, mask in run], names) for run in self._runs(views, masks)
        ]
        return dict(zip(names, _concatenated(passes, names), strict=True))

    def _runs(
        self, views: Sequence[Tensor], masks: Sequence[Optional[Tensor]]
    ) -> Iterator[list[tuple[Tensor, Optional[Tensor]]]]:
        """What goes through the trunk together; views with and without a mask never do."""
        pairs = list(enumerate(zip(views, masks, strict=True)))
        alone = self.passes is Passes.VIEW
        for _, run in groupby(pairs, key=lambda p: (p[1][0].shape[-2:], p[1][1] is None, p[0] if alone else None)):
            yield [pair for _, pair in run]

    def _pass(self, views: Sequence[Tensor], masks: Sequence[Optional[Tensor]], names: Sequence[str]) -> Features:
        known = [mask for mask in masks if mask is not None]
        if not known:
            features: Features = self.trunk(joined(views), names)
            return features
        if not isinstance(self.trunk, MaskedTrunk):
            raise ValueError(f"{type(self.trunk).__name__} takes no masks; a trunk of patches does, such as a ViT")
        masked: Features = self.trunk(joined(views), names, joined(known))
        return masked

    def extract(self, images: Float[Tensor, "B C H W"], feature: str) -> Float[Tensor, "B D"]:
        """One feature of the trunk, flattened, without heads: what evaluations work on.

        Raises:
            ValueError: the trunk has no such feature.
        """
        if mistake := unknown(self.trunk, feature):
            raise ValueError(mistake)
        (out,) = self.trunk(images, [feature])
        return torch.flatten(out, 1)


def _each(names: Sequence[str], readers: int) -> list[str]:
    """One name a head, or without heads one a feature."""
    return list(names) * readers if len(names) == 1 else list(names)


def unknown(trunk: Trunk, name: str) -> str:
    """What is wrong if the trunk has no such feature, else nothing."""
    known = list(trunk.feature_dims)
    return "" if name in known else f"{type(trunk).__name__} has no feature {name!r}{nearest(name, known)}"


def _concatenated(passes: Sequence[Features], names: Sequence[str]) -> Iterator[Tensor]:
    """The rows of all passes, a tensor a feature."""
    for name, parts in zip(names, zip(*passes, strict=True), strict=True):
        shapes = {tuple(part.shape[1:]) for part in parts}
        if len(shapes) > 1:
            raise ValueError(
                f"feature {name!r} has the shapes {sorted(shapes)} for views of different sizes; ask for a pooled one"
            )
        yield joined(parts)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts; of a single part without a copy."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]

"""The model: a trunk and heads, and which head reads which feature of which input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import accumulate, groupby, pairwise
from types import MappingProxyType
from typing import NamedTuple, Optional

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.config.hints import nearest
from ssltyped.model.freeze import hold
from ssltyped.types import Features, Head, Inference, MaskedTrunk, Outputs, Trunk


class Passes(Enum):
    """What goes through the trunk at once: consecutive views of one size, or one view; apart: through the heads too.

    BatchNorm normalizes by what goes through at once.
    """

    SIZE = "size"
    VIEW = "view"
    APART = "apart"


def mistakes(
    trunk: Trunk, heads: Mapping[str, Head], views_of: Mapping[str, int], extra: Sequence[str] = ()
) -> Iterator[tuple[str, str]]:
    """Everything that is wrong with the wiring: the path of what is wrong, and how."""
    for name, head in heads.items():
        feature = head.feature or default_feature(trunk)
        if wrong := unknown(trunk, feature):
            yield f"heads.{name}.feature", wrong
        elif head.in_dim != (width := trunk.feature_dims[feature]):
            yield f"heads.{name}.in_dim", f"{type(head).__name__} reads {head.in_dim}, but {feature!r} is {width} wide"
    yield from (("", wrong) for wrong in filter(None, (unknown(trunk, name) for name in extra)))
    yield from wrong_inputs({name: head.input for name, head in heads.items()}, views_of)


def wrong_inputs(read: Mapping[str, Optional[str]], views_of: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Inputs that a head does not say although there are several, that are unknown, or that no head reads."""
    known = list(views_of)
    for name, wanted in read.items():
        if wanted is None and len(known) > 1:
            yield f"heads.{name}.input", f"the data makes the inputs {', '.join(known)}: say which one is read"
        elif wanted is not None and wanted not in known:
            yield f"heads.{name}.input", f"the data makes no input {wanted!r}{nearest(wanted, known)}"
    for name in known if len(known) > 1 and read else ():
        if name not in read.values():
            yield "heads", f"no head reads the input {name!r}: the data makes {views_of[name]} views for it in vain"


class _Read(NamedTuple):
    """A feature of the trunk, and the input of which it is read."""

    input: str
    feature: str

    @property
    def name(self) -> str:
        """What `Outputs.features` calls it."""
        return ".".join(filter(None, self))


class SSLModel(nn.Module):
    """Views of the same images to the outputs of the heads, rows ordered [all B of view 0; all B of view 1; ...].

    Consecutive views of equal height and width share one pass through the trunk (`passes`); a head runs once, on the
    rows of all views of the input that it reads (`Head.feature`, `Head.input`), or with `Passes.APART` once a view. A
    head of several outputs gives them in a row. Without heads there are the features in `extra` alone.

    Raises:
        ValueError: a feature or an input that is not there, several inputs and a head that does not say which, a head
            whose `in_dim` is not the width of its feature, or a name in `frozen` that nothing has; all in one message.

    Args:
        trunk: images to features.
        heads: features to what the loss wants, by name.
        views_of: the number of consecutive views of each input, in order; empty: one input of however many views.
        passes: what goes through trunk and heads at once.
        frozen: names of modules or parameters that never learn, such as "trunk"; such modules stay in eval mode.
        extra: features that `Outputs.features` has beside those that heads read, of the first input; `extra` of the
            model says by which names.
    """

    def __init__(
        self,
        *,
        trunk: Trunk,
        heads: Mapping[str, Head],
        views_of: Mapping[str, int] = MappingProxyType({}),
        passes: Passes = Passes.SIZE,
        frozen: Sequence[str] = (),
        extra: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if wrong := list(mistakes(trunk, heads, views_of, extra)):
            raise ValueError("the model cannot be wired: " + "; ".join(f"{path}: {text}" for path, text in wrong))
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)
        several = len(views_of) > 1
        ends = pairwise([0, *accumulate(views_of.values())])
        named_slices = {name: slice(*pair) for name, pair in zip(views_of, ends, strict=True)}
        self._slices = named_slices if several else {"": slice(None)}
        self._num_views = sum(views_of.values()) if several else None
        self._reads = {
            name: _Read(head.input or "" if several else "", head.feature or default_feature(trunk))
            for name, head in heads.items()
        }
        self._extra = [_Read(next(iter(self._slices)), name) for name in extra]
        self.extra = {read.feature: read.name for read in self._extra}
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
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = MappingProxyType({}),
    ) -> Outputs:
        """`heads`: the names of those that run; None: all. `features`: by head, what it reads instead, if it does."""
        reads = {
            name: _Read(read.input, features.get(name, read.feature))
            for name, read in self._reads.items()
            if heads is None or name in heads
        }
        rows = self._rows(views, masks, [*reads.values(), *self._extra])
        num_views = {name: len(views[part]) for name, part in self._slices.items()}
        found = {name: self._outputs(name, rows[read], num_views[read.input]) for name, read in reads.items()}
        return Outputs(found, {read.name: row for read, row in rows.items()})

    def of_features(
        self, features: Mapping[str, Tensor], heads: Sequence[str], num_views: int
    ) -> dict[str, tuple[Tensor, ...]]:
        """The outputs of those of the heads whose feature is among these, which an earlier pass of all views gave."""
        reads = {head: self._reads[head] for head in heads if head in self._reads}
        found = {head: read for head, read in reads.items() if read.name in features}
        counts = {name: len(range(num_views)[part]) for name, part in self._slices.items()}
        return {head: self._outputs(head, features[read.name], counts[read.input]) for head, read in found.items()}

    def _outputs(self, head: str, rows: Tensor, num_views: int) -> tuple[Tensor, ...]:
        """What a head makes of the rows of an input, of so many views."""
        made = []
        for part in rows.chunk(num_views) if self.passes is Passes.APART else (rows,):
            out: Tensor | list[Tensor] = self.heads[head](part)
            made.append((out,) if isinstance(out, Tensor) else tuple(out))
        return tuple(joined(outputs) for outputs in zip(*made, strict=True))

    def _rows(
        self, views: Sequence[Tensor], masks: Sequence[Optional[Tensor]], reads: Sequence[_Read]
    ) -> dict[_Read, Tensor]:
        """Each feature that is read, of all views of its input."""
        if self._num_views not in (None, len(views)):
            made = f"the inputs {', '.join(self._slices)} are {self._num_views} views"
            raise ValueError(f"{made}; the method shows {len(views)}")
        masks = masks or [None] * len(views)
        found: dict[_Read, Tensor] = {}
        for name, part in self._slices.items():
            features = list(dict.fromkeys(read.feature for read in reads if read.input == name))
            if features:
                passes = [self._pass(run, features) for run in self._runs(views[part], masks[part])]
                for feature, parts in zip(features, zip(*passes, strict=True), strict=True):
                    found[_Read(name, feature)] = _concatenated(feature, parts)
        return found

    def _runs(
        self, views: Sequence[Tensor], masks: Sequence[Optional[Tensor]]
    ) -> Iterator[list[tuple[Tensor, Optional[Tensor]]]]:
        """What goes through the trunk together; views with and without a mask never do."""
        pairs = list(enumerate(zip(views, masks, strict=True)))
        alone = self.passes is not Passes.SIZE
        for _, run in groupby(pairs, key=lambda p: (p[1][0].shape[-2:], p[1][1] is None, p[0] if alone else None)):
            yield [pair for _, pair in run]

    def _pass(self, run: Sequence[tuple[Tensor, Optional[Tensor]]], names: Sequence[str]) -> Features:
        images, masks = joined([view for view, _ in run]), [mask for _, mask in run if mask is not None]
        if masks and not isinstance(self.trunk, MaskedTrunk):
            raise ValueError(f"{type(self.trunk).__name__} takes no masks; a trunk of patches does, such as a ViT")
        features: Features = self.trunk(images, names, joined(masks)) if masks else self.trunk(images, names)
        return features

    def extract(self, images: Float[Tensor, "B C H W"], feature: str) -> Float[Tensor, "B D"]:
        """One feature of the trunk, flattened, without heads: what evaluations work on.

        Raises:
            ValueError: the trunk has no such feature.
        """
        if mistake := unknown(self.trunk, feature):
            raise ValueError(mistake)
        (out,) = self.trunk(images, [feature])
        return torch.flatten(out, 1)


def inferred_reads(heads: Mapping[str, object], widths: Mapping[str, int], whose: str) -> Iterator[Inference]:
    """The feature that each head reads and its width, for the configs of heads on a trunk with these features."""
    last = list(widths)[-1]
    for name, head in heads.items():
        feature = getattr(head, "feature", None) or last
        if hasattr(head, "feature"):
            yield Inference(f"heads.{name}.feature", last, f"the last feature of {whose}", default=True)
        if hasattr(head, "in_dim") and feature in widths:
            yield Inference(f"heads.{name}.in_dim", widths[feature], f"width of {whose}'s {feature}")


def default_feature(trunk: Trunk) -> str:
    """The trunk's last feature."""
    return list(trunk.feature_dims)[-1]


def unknown(trunk: Trunk, name: str) -> str:
    """What is wrong if the trunk has no such feature, else nothing."""
    known = list(trunk.feature_dims)
    return "" if name in known else f"{type(trunk).__name__} has no feature {name!r}{nearest(name, known)}"


def _concatenated(name: str, parts: Sequence[Tensor]) -> Tensor:
    """The rows of all passes of this feature."""
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise ValueError(
            f"feature {name!r} has the shapes {sorted(shapes)} for views of different sizes; ask for a pooled one"
        )
    return joined(parts)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts; of a single part without a copy."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]

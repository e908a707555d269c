"""Which head reads which feature of which input: the seven ways of VISSL, and where their heads are in ours.

1 head, or as many features as heads          head i reads feature i
several heads, one feature                    the heads in a row are one
a nested list of heads                        a head of several in a row
MULTI_INPUT_HEAD_MAPPING, lists               input and feature of each head by name
MULTI_INPUT_HEAD_MAPPING, one head for all    the loss says which feature it reads of which views
LINEAR_EVAL_FEAT_POOL_OPS_MAP                 the feature is pooled before its head reads it
EXTRACT_TRUNK_FEATURES_ONLY                   no heads: the features are the output
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ssltyped.config import ConfigError, join, replaced
from ssltyped.config.resolve import Row
from ssltyped.heads.plumbing import HeadSequence, PoolHead, Pooling
from ssltyped.interop.vissl.heads import head
from ssltyped.interop.vissl.settings import Settings, make
from ssltyped.interop.vissl.yaml import Value
from ssltyped.model.model import Passes
from ssltyped.types import Head, Problem
from ssltyped.weights.vissl import Leaf


@dataclasses.dataclass(frozen=True)
class Wired:
    """Heads and what they read.

    Args:
        heads: ours, by name; each says what it reads.
        leaves: where each of VISSL's heads is in ours, and what it is called.
        passes: what goes through the trunk at once.
        feature_of: for a head that reads several inputs, the feature of each.
        extra: without heads, the features that are the output.
    """

    heads: dict[str, Head]
    leaves: tuple[Leaf, ...]
    passes: Passes
    feature_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extra: tuple[str, ...] = ()


class _Made(NamedTuple):
    """A head, or several in a row as one, and VISSL's heads in it: `ours` is their path below it."""

    head: Head
    leaves: Sequence[Leaf]

    def leaves_at(self, step: object) -> list[Leaf]:
        """Their paths where the head is one of several."""
        return [leaf._replace(ours=join("heads", step, leaf.ours)) for leaf in self.leaves]


def _wired(
    made: Sequence[_Made],
    features: Sequence[str],
    passes: Passes,
    inputs: Sequence[str] = (),
    feature_of: Mapping[str, str] = MappingProxyType({}),
) -> Wired:
    """Heads with a feature each (and an input each): the only one is `head`, others are called after what they read."""
    read = ["head"] if len(made) == 1 else list(inputs or features)
    before = [read[:place].count(name) for place, name in enumerate(read)]
    names = [f"{name}_{count + 1}" if count else name for name, count in zip(read, before, strict=True)]
    given: Sequence[str | None] = inputs or [None] * len(made)
    heads = {
        name: replaced(part.head, {"feature": feature, "input": own})
        for name, part, feature, own in zip(names, made, features, given, strict=True)
    }
    leaves = [leaf for name, part in zip(names, made, strict=True) for leaf in part.leaves_at(name)]
    return Wired(heads, tuple(leaves), passes, feature_of)


def wiring(model: Settings, dims: Mapping[str, int], default: str, rows: list[Row]) -> Wired:
    """The heads of a `MODEL` section on a trunk with features of these widths; what is changed is added to `rows`.

    Raises `ConfigError`.
    """
    passes = Passes.VIEW if model.get("SINGLE_PASS_EVERY_CROP", bool, False) else Passes.SIZE
    evaluation = model.at("FEATURE_EVAL_SETTINGS")
    mapping: Sequence[Value] = model.get("MULTI_INPUT_HEAD_MAPPING", list, [])
    heads: Sequence[Value] = model.at("HEAD").get("PARAMS", list, [])
    evaluating = evaluation.get("EVAL_MODE_ON", bool, False)
    pools: Sequence[Value] = evaluation.get("LINEAR_EVAL_FEAT_POOL_OPS_MAP", list, [])
    alone = evaluation.get("EXTRACT_TRUNK_FEATURES_ONLY", bool, False)
    maker = _Maker(model.at("HEAD"), dims, rows)
    if mapping:
        return _mapped(maker, heads, mapping, passes)
    if evaluating and pools:
        flatten = evaluation.get("SHOULD_FLATTEN_FEATS", bool, True)
        return _pooled(maker, heads, pools, passes, flatten=flatten, alone=alone)
    if (evaluating and alone) or not heads:
        return Wired({}, (), passes, extra=(default,))
    maker.read(default)
    made = [maker.one_or_row(entry, number) for number, entry in enumerate(heads)]
    return _wired(made if len(made) == 1 else [maker.row(made)], [default], passes)


class _Maker:
    """Makes heads one after the other, of which each reads what the one before gives."""

    def __init__(self, section: Settings, dims: Mapping[str, int], rows: list[Row]) -> None:
        self.section, self.dims, self.rows = section, dims, rows
        self.width: int | None = None

    def read(self, feature: str) -> None:
        """What comes next reads a feature of the trunk."""
        self.width = self.dims.get(feature)

    def one_or_row(self, entry: Value, number: int) -> _Made:
        """A head, or a nested list of them in a row; `number` is its place among VISSL's heads."""
        parts = entry if isinstance(entry, list) else []
        if parts and isinstance(parts[0], str):
            return self._one(entry, str(number))
        if not parts:
            raise ConfigError([Problem(f"{self.section.path}.PARAMS.{number}", "is empty: want heads")])
        return self.row([self._one(part, f"{number}.{index}") for index, part in enumerate(parts)])

    def row(self, made: Sequence[_Made]) -> _Made:
        """Heads in a row as one."""
        fields = {"heads": [part.head for part in made], "in_dim": made[0].head.in_dim}
        leaves = [leaf for index, part in enumerate(made) for leaf in part.leaves_at(index)]
        return _Made(make(HeadSequence, fields, f"{self.section.path}.PARAMS"), leaves)

    def _one(self, entry: Value, place: str) -> _Made:
        where = f"{self.section.path}.PARAMS.{place}"
        if isinstance(entry, list) and len(entry) > 2:
            self.rows.append(Row(where, entry, entry[:2], "a head is a name and its settings: the rest says nothing"))
            entry = entry[:2]
        name, made = head(entry, self.width, self.section, where)
        self.width = made.width
        return _Made(made.head, [Leaf("", f"heads.{place}", name)])


def _mapped(maker: _Maker, heads: Sequence[Value], mapping: Sequence[Value], passes: Passes) -> Wired:
    """Heads with an input and a feature by name."""
    where = "config.MODEL.MULTI_INPUT_HEAD_MAPPING"
    pairs = [_pair(entry, f"{where}.{number}") for number, entry in enumerate(mapping)]
    shared = len(heads) == 1 and len(pairs) > 1
    if not shared and len(heads) != len(pairs):
        raise ConfigError([Problem(where, f"{len(pairs)} inputs for {len(heads)} heads: want one each")])
    inputs, features = [name for name, _ in pairs], [feature for _, feature in pairs]
    made = []
    for number, (entry, feature) in enumerate(zip(heads, features, strict=not shared)):
        maker.read(feature)
        made.append(maker.one_or_row(entry, number))
    if shared:
        return _wired(made, features[:1], passes, feature_of=dict(pairs))
    return _wired(made, features, passes, inputs)


def _pair(entry: Value, where: str) -> tuple[str, str]:
    """Input and feature of ["images", ["flatten"]] or of ["views", {"feat_names": ["lastBLK"], ...}]."""
    match entry:
        case [str(name), [str(feature)] | {"feat_names": [str(feature)]}]:
            return name, feature
    raise ConfigError([Problem(where, f"got {entry!r}: want [INPUT, [FEATURE]] with one feature")])


def _pooled(
    maker: _Maker, heads: Sequence[Value], pools: Sequence[Value], passes: Passes, *, flatten: bool, alone: bool
) -> Wired:
    """Heads on pooled features of a frozen trunk."""
    where = "config.MODEL.FEATURE_EVAL_SETTINGS.LINEAR_EVAL_FEAT_POOL_OPS_MAP"
    if alone:
        raise ConfigError([Problem(where, "features without heads are not imported: evaluations read them themselves")])
    if len(heads) != len(pools):
        raise ConfigError([Problem(where, f"{len(pools)} features for {len(heads)} heads: want one each")])
    found: list[_Made] = []
    features: list[str] = []
    for number, (entry, pool) in enumerate(zip(heads, pools, strict=True)):
        feature, name, args = _operation(pool, f"{where}.{number}")
        maker.read(feature)
        width = maker.width
        made = maker.one_or_row(entry, number)
        wanted = made.head.in_dim
        if name != "Identity" or wanted not in (None, width):
            fields = _pool(name, args, wanted or width or 0, width, f"{where}.{number}")
            reads_rows = isinstance(entry, list) and entry[0] in ("mlp", "mlp_fsdp", "mlp_res")
            pooling = make(PoolHead, {**fields, "flatten": flatten or reads_rows}, f"{where}.{number}")
            made = maker.row([_Made(pooling, []), made])
        found.append(made)
        features.append(feature)
    return _wired(found, features, passes)


def _operation(pool: Value, where: str) -> tuple[str, str, Sequence[Value]]:
    """Feature, operation and its arguments of ["res5", ["AvgPool2d", [[6, 6], 1, 0]]]."""
    match pool:
        case [str(feature), [str(name)]]:
            return feature, name, []
        case [str(feature), [str(name), list(args), *_]]:
            return feature, name, args
    raise ConfigError([Problem(where, f"got {pool!r}: want [FEATURE, [OPERATION, [ARGUMENTS]]]")])


def _pool(name: str, args: Sequence[Value], wanted: int, channels: int | None, where: str) -> dict[str, object]:
    """The fields of a `PoolHead` that gives `wanted` values of a feature with these channels."""
    kind = Pooling.MAX if "Max" in name else Pooling.AVERAGE
    if name in ("AdaptiveAvgPool2d", "AdaptiveMaxPool2d"):
        height, width = _sides(args[0] if args else None, where)
        if height * width * (channels or 0) != wanted:
            message = f"gives {height} x {width} of {channels} channels, and its head reads {wanted} values"
            raise ConfigError([Problem(where, message)])
        return {"size": height if height == width else (height, width), "in_dim": channels, "pooling": kind}
    size = math.isqrt(wanted // channels) if channels else 0
    if channels is None or size * size * channels != wanted:
        message = f"its head reads {wanted} values, which are no square of {channels} channels"
        raise ConfigError([Problem(where, message)])
    fields: dict[str, object] = {"size": size, "in_dim": channels}
    if name == "Identity":
        return {**fields, "kernel_size": 1}
    if name not in ("AvgPool2d", "MaxPool2d") or not 1 <= len(args) <= 3:
        raise ConfigError([Problem(where, f"got {name}{list(args)}: want AvgPool2d, MaxPool2d, or an adaptive one")])
    kernel, *rest = (_side(arg, where) for arg in args)
    stride, padding = [*rest, *[kernel, 0][len(rest) :]]
    return {**fields, "pooling": kind, "kernel_size": kernel, "stride": stride, "padding": padding}


def _sides(value: Value, where: str) -> tuple[int, int]:
    """Height and width."""
    match value:
        case int(side) | [int(side)]:
            return side, side
        case [int(height), int(width)]:
            return height, width
    raise ConfigError([Problem(where, f"got {value!r}: want a side, or height and width")])


def _side(value: Value, where: str) -> int:
    """The side of a square."""
    height, width = _sides(value, where)
    if height != width:
        raise ConfigError([Problem(where, f"got {value!r}: windows are square here")])
    return height

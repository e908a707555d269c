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

from ssltyped.config import ConfigError, replaced
from ssltyped.config.resolve import Row
from ssltyped.heads.plumbing import HeadSequence, PoolHead, Pooling
from ssltyped.interop.vissl.heads import Made, entries, head, is_one
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


def _wired(
    heads: Sequence[Head],
    leaves: Sequence[Leaf],
    features: Sequence[str],
    passes: Passes,
    inputs: Sequence[str] = (),
    feature_of: Mapping[str, str] = MappingProxyType({}),
) -> Wired:
    """Heads with a feature each (and an input each): the only one is `head`, others are called after what they read."""
    read = ["head"] if len(heads) == 1 else list(inputs or features)
    before = [read[:place].count(name) for place, name in enumerate(read)]
    names = [f"{name}_{count + 1}" if count else name for name, count in zip(read, before, strict=True)]
    given: Sequence[str | None] = inputs or [None] * len(heads)
    named = {
        name: replaced(head, {"feature": feature, "input": own})
        for name, head, feature, own in zip(names, heads, features, given, strict=True)
    }

    def moved(leaf: Leaf) -> Leaf:
        _, number, *below = leaf.ours.split(".")
        return leaf._replace(ours=".".join(["heads", names[int(number)], *below]))

    return Wired(named, tuple(map(moved, leaves)), passes, feature_of)


def wiring(model: Settings, dims: Mapping[str, int], default: str, rows: list[Row]) -> Wired:
    """The heads of a `MODEL` section on a trunk with features of these widths; what is changed is added to `rows`.

    Raises `ConfigError`.
    """
    passes = Passes.VIEW if model.get("SINGLE_PASS_EVERY_CROP", bool, False) else Passes.SIZE
    evaluation, mapping = model.at("FEATURE_EVAL_SETTINGS"), entries(model.get("MULTI_INPUT_HEAD_MAPPING", list, []))
    heads = entries(model.at("HEAD").get("PARAMS", list, []))
    evaluating = evaluation.get("EVAL_MODE_ON", bool, False)
    pools = entries(evaluation.get("LINEAR_EVAL_FEAT_POOL_OPS_MAP", list, []))
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
    made = [maker.one_or_row(entry, str(number)) for number, entry in enumerate(heads)]
    if len(made) == 1:
        return _wired([made[0].head], maker.placed("heads.0", "heads.0"), [default], passes)
    return _wired([maker.row(made)], maker.placed("heads.0.heads.{}", "heads.{}"), [default], passes)


class _Maker:
    """Makes heads one after the other, of which each reads what the one before gives, and notes their places."""

    def __init__(self, section: Settings, dims: Mapping[str, int], rows: list[Row]) -> None:
        self.section, self.dims, self.rows = section, dims, rows
        self.width: int | None = None
        self.names: list[tuple[str, str, str]] = []

    def read(self, feature: str) -> None:
        """What comes next reads a feature of the trunk."""
        self.width = self.dims.get(feature)

    def one_or_row(self, entry: Value, number: str) -> Made:
        """A head, or a nested list of them in a row; `number` is its place among VISSL's heads."""
        if is_one(entry):
            return self._one(entry, number, number)
        parts = entries(entry)
        made = [self._one(part, f"{number}.heads.{index}", f"{number}.{index}") for index, part in enumerate(parts)]
        if not made:
            raise ConfigError([Problem(f"{self.section.path}.PARAMS.{number}", "is empty: want heads")])
        return Made(self.row(made), made[-1].width)

    def row(self, made: Sequence[Made]) -> Head:
        """Heads in a row as one."""
        fields = {"heads": [part.head for part in made], "in_dim": made[0].head.in_dim}
        return make(HeadSequence, fields, f"{self.section.path}.PARAMS")

    def _one(self, entry: Value, ours: str, theirs: str) -> Made:
        where = f"{self.section.path}.PARAMS.{theirs}"
        if isinstance(entry, list) and len(entry) > 2:
            self.rows.append(Row(where, entry, entry[:2], "a head is a name and its settings: the rest says nothing"))
            entry = entry[:2]
        name, made = head(entry, self.width, self.section, where)
        self.width = made.width
        self.names.append((ours, theirs, name))
        return made

    def placed(self, ours: str, theirs: str) -> tuple[Leaf, ...]:
        """The places of the heads so far: `{}` stands for the number of each, which is left out without it."""
        return tuple(Leaf(_place(ours, our), _place(theirs, their), name) for our, their, name in self.names)


def _place(pattern: str, number: str) -> str:
    if "{}" in pattern:
        return pattern.format(number)
    _, _, below = number.partition(".")
    return f"{pattern}.{below}" if below else pattern


def _mapped(maker: _Maker, heads: Sequence[Value], mapping: Sequence[Value], passes: Passes) -> Wired:
    """Heads with an input and a feature by name."""
    where = "config.MODEL.MULTI_INPUT_HEAD_MAPPING"
    pairs = [_pair(entry, f"{where}.{number}") for number, entry in enumerate(mapping)]
    if len(heads) == 1 and len(pairs) > 1:
        maker.read(pairs[0][1])
        made = maker.one_or_row(heads[0], "0")
        leaves = maker.placed("heads.{}", "heads.{}")
        return _wired([made.head], leaves, [pairs[0][1]], passes, feature_of=dict(pairs))
    if len(heads) != len(pairs):
        raise ConfigError([Problem(where, f"{len(pairs)} inputs for {len(heads)} heads: want one each")])
    found = []
    for number, (entry, (_, feature)) in enumerate(zip(heads, pairs, strict=True)):
        maker.read(feature)
        found.append(maker.one_or_row(entry, str(number)).head)
    features, inputs = [feature for _, feature in pairs], [name for name, _ in pairs]
    return _wired(found, maker.placed("heads.{}", "heads.{}"), features, passes, inputs)


def _pair(entry: Value, where: str) -> tuple[str, str]:
    """Input and feature of ["images", ["flatten"]] or of ["views", {"feat_names": ["lastBLK"], ...}]."""
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str):
        names = entry[1].get("feat_names") if isinstance(entry[1], dict) else entry[1]
        if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
            return entry[0], names[0]
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
    found: list[Head] = []
    features: list[str] = []
    leaves: list[Leaf] = []
    for number, (entry, pool) in enumerate(zip(heads, pools, strict=True)):
        feature, name, args = _operation(pool, f"{where}.{number}")
        maker.read(feature)
        width = maker.width
        maker.names.clear()
        made = maker.one_or_row(entry, str(number))
        wanted = made.head.in_dim
        if name == "Identity" and wanted in (None, width):
            found.append(made.head)
            leaves += maker.placed("heads.{}", "heads.{}")
        else:
            fields = _pool(name, args, wanted or width or 0, width, f"{where}.{number}")
            keep = not flatten and not _is_mlp(entry)
            pooling = make(PoolHead, {**fields, "flatten": not keep}, f"{where}.{number}")
            found.append(maker.row([Made(pooling, None), made]))
            leaves += maker.placed(f"heads.{number}.heads.1", f"heads.{number}")
        features.append(feature)
    return _wired(found, leaves, features, passes)


def _is_mlp(entry: Value) -> bool:
    """Whether a head reads rows, not maps."""
    return isinstance(entry, list) and entry[0] in ("mlp", "mlp_fsdp", "mlp_res")


def _operation(pool: Value, where: str) -> tuple[str, str, Sequence[Value]]:
    """Feature, operation and its arguments of ["res5", ["AvgPool2d", [[6, 6], 1, 0]]]."""
    if isinstance(pool, list) and len(pool) == 2 and isinstance(pool[0], str) and isinstance(pool[1], list):
        name, *rest = pool[1]
        args = rest[0] if rest else []
        if isinstance(name, str) and isinstance(args, list):
            return pool[0], name, args
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
    sides = value if isinstance(value, list) else [value]
    known = [side for side in sides if isinstance(side, int)]
    if len(known) != len(sides) or len(known) not in (1, 2):
        raise ConfigError([Problem(where, f"got {value!r}: want a side, or height and width")])
    return known[0], known[-1]


def _side(value: Value, where: str) -> int:
    """The side of a square."""
    height, width = _sides(value, where)
    if height != width:
        raise ConfigError([Problem(where, f"got {value!r}: windows are square here")])
    return height

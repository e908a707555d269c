"""What a trunk, and heads on it, make of all images of a source, written to disk."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ssltyped import distributed
from ssltyped.config.hints import nearest
from ssltyped.data.normalizing import Normalizer
from ssltyped.data.pipeline import IMAGENET_MEAN, IMAGENET_STD, Report, ignore
from ssltyped.data.reading import DataError, ReadEval, Reply, Request
from ssltyped.data.workers import Answers
from ssltyped.evals.features import Features, Manifest, is_whole, write_shard
from ssltyped.meters.representation import pooled
from ssltyped.model.model import SSLModel, default_feature
from ssltyped.transforms.views import last_size
from ssltyped.types import Head, Source, Transform, Trunk

HEADS = "heads."
"""What the name of a head's output starts with."""

SHARD_SIZE = 2048


class Pooling(Enum):
    """What becomes of a feature that is a map (B C H W) or tokens (B T D): the mean over places, or all in a row."""

    MEAN = "mean"
    FLATTEN = "flatten"

    def __call__(self, feature: Float[Tensor, "B ..."]) -> Float[Tensor, "B D"]:
        return feature.flatten(1) if self is Pooling.FLATTEN else pooled(feature)


class Extractor:
    """Images to the named features of a trunk, and outputs of heads on it, a row each.

    Raises ValueError for a name that is none of them.

    Args:
        trunk: images to features.
        heads: what reads it, by name.
        names: features of the trunk; heads.NAME for the output of a head, heads.NAME.0 ... if it has several.
        pooling: of features that are no rows.
    """

    def __init__(self, trunk: Trunk, heads: Mapping[str, Head], names: Sequence[str], pooling: Pooling) -> None:
        known = known_names(trunk.feature_dims, {name: len(head.out_dims) for name, head in heads.items()})
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"there is no feature {unknown[0]!r}{nearest(unknown[0], list(known))}")
        self.names, self._pooling = tuple(names), pooling
        read = {known[name][0] for name in names}
        of_trunk = [name for name in names if not known[name][0]]
        asked = {name: head for name, head in heads.items() if name in read}
        self.model = SSLModel(trunk=trunk, heads=asked, extra=of_trunk)
        self._places = {name: known[name] for name in names}

    def __call__(self, images: Float[Tensor, "B C H W"]) -> dict[str, Float[Tensor, "B D"]]:
        found = self.model([images])
        rows = {n: found.heads[head][at] if head else found.features[n] for n, (head, at) in self._places.items()}
        return {name: self._pooling(row.float()) for name, row in rows.items()}


def known_names(features: Mapping[str, int], outputs: Mapping[str, int]) -> dict[str, tuple[str, int]]:
    """What can be extracted: by name, the head ("": none) and the number of its output, of which each has so many."""
    several = {f"{HEADS}{head}.{at}": (head, at) for head, count in outputs.items() for at in range(count) if count > 1}
    single = {f"{HEADS}{head}": (head, 0) for head, count in outputs.items() if count == 1}
    return {**dict.fromkeys(features, ("", 0)), **single, **several}


def extract(
    trunk: Trunk,
    source: Source,
    folder: Path,
    *,
    transforms: Sequence[Transform],
    features: Sequence[str] = (),
    heads: Mapping[str, Head] = MappingProxyType({}),
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    pooling: Pooling = Pooling.MEAN,
    batch_size: int = 256,
    num_workers: int = 0,
    shard_size: int = SHARD_SIZE,
    device: torch.device = torch.device("cpu"),
    made_from: Mapping[str, str] = MappingProxyType({}),
    on_unreadable: Report = ignore,
) -> Features:
    """Write features of all images into a folder, each image once, and open them (collective).

    Rank r of W makes the shards r, r + W, ...; batches do not depend on W, so that the files are the same bytes on any
    number of ranks. A shard that is there is not made again, one that was begun is: a run that was killed goes on.
    The trunk is in eval mode, and computes in float32. Images that cannot be read are left out, and reported.

    Args:
        trunk: images to features.
        source: the images.
        folder: where they are written; of an earlier extraction only if that was the same.
        transforms: image to the one view that is read, such as Resize and CenterCrop; nothing random.
        features: names, see `Extractor`; empty: the trunk's last one.
        heads: heads on the trunk whose outputs are asked for.
        mean: of each channel, with pixels in [0, 1].
        std: standard deviation of each channel, likewise.
        pooling: of features that are no rows.
        batch_size: images that go through the trunk at once.
        num_workers: processes a rank that read; 0: this one does.
        shard_size: images a shard: so many are lost when a rank is killed.
        device: where the trunk computes; it is moved there.
        made_from: what is noted of the weights and the images, and must be the same to go on.
        on_unreadable: gets what could not be read.

    Raises:
        ValueError: an unknown feature, images that the trunk does not take, or a folder that has other features.
        DataError: no image can be read.
    """
    extractor = Extractor(trunk, heads, features or [default_feature(trunk)], pooling)
    extractor.model.to(device).eval()
    widths = _widths(extractor, last_size(transforms), len(mean), device)
    said = {"transforms": ", ".join(map(_described, transforms)), "mean": str(tuple(mean)), "std": str(tuple(std))}
    about = {**made_from, **said, "pooling": pooling.value}
    manifest = Manifest(widths, len(source), shard_size, tuple(source.classes) if source.labelled else (), about)
    distributed.first_rank_does(lambda: manifest.begin(folder), ValueError)
    reading = functools.partial(_read, source, transforms, manifest, batch_size=batch_size, num_workers=num_workers)
    _write(extractor, Normalizer(mean, std), folder, manifest, reading, source.name, on_unreadable)
    distributed.barrier()
    found = Features(folder)
    if not len(found):
        raise DataError(f"none of the {len(source)} images can be read")
    return found


def _write(
    extractor: Extractor,
    normalize: Normalizer,
    folder: Path,
    manifest: Manifest,
    reading: Callable[[Sequence[int]], Iterator[tuple[int, Iterator[Reply]]]],
    name: Callable[[int], str],
    on_unreadable: Report,
) -> None:
    """The shards of this rank that are not there."""
    device = next(extractor.model.parameters()).device
    mine = range(distributed.rank(), manifest.num_shards, distributed.world_size())
    for shard, replies in reading([shard for shard in mine if not is_whole(folder, shard, manifest.features)]):
        parts: list[dict[str, Shaped[np.ndarray, "B ..."]]] = []
        for reply in replies:
            if reply.unreadable:
                on_unreadable(reply.unreadable)
            if len(reply.index):
                with torch.no_grad():
                    rows = extractor(normalize(reply.views[0].to(device)))
                parts.append({feature: row.cpu().numpy() for feature, row in rows.items()} | _beside(reply, name))
        write_shard(folder, shard, _joined(parts, manifest.features))


def _described(transform: Transform) -> str:
    return f"{type(transform).__name__}({', '.join(f'{k}={v}' for k, v in vars(transform).items() if k[:1] != '_')})"


def _widths(extractor: Extractor, size: int, channels: int, device: torch.device) -> dict[str, int]:
    if not size:
        raise ValueError("the transforms give images of no known size: end with a crop")
    with torch.no_grad():
        rows = extractor(torch.zeros(1, channels, size, size, device=device))
    return {name: row.shape[1] for name, row in rows.items()}


def _read(
    source: Source,
    transforms: Sequence[Transform],
    manifest: Manifest,
    shards: Sequence[int],
    *,
    batch_size: int,
    num_workers: int,
) -> Iterator[tuple[int, Iterator[Reply]]]:
    """Each shard with its batches, read one after the other ahead of time."""
    counts = {shard: -(-len(manifest.images_of(shard)) // batch_size) for shard in shards}
    batches = (np.array_split(np.array(manifest.images_of(shard)), count) for shard, count in counts.items())
    requests = (Request(0, batch) for of_shard in batches for batch in of_shard)
    answers = Answers(ReadEval(source, transforms), requests, num_workers=num_workers)
    try:
        for shard, count in counts.items():
            yield shard, (next(answers) for _ in range(count))
    finally:
        answers.close()


def _beside(reply: Reply, name: Callable[[int], str]) -> dict[str, Shaped[np.ndarray, "B ..."]]:
    """Which images the rows of a batch are."""
    label = np.full(len(reply.index), -1, np.int64) if reply.label is None else reply.label
    return {"index": reply.index, "label": label, "path": np.array([name(int(index)) for index in reply.index])}


def _joined(
    parts: Sequence[Mapping[str, Shaped[np.ndarray, "B ..."]]], widths: Mapping[str, int]
) -> dict[str, Shaped[np.ndarray, "n ..."]]:
    """The arrays of a shard; one of which no image can be read has none."""
    if parts:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    empty = {"index": np.zeros(0, np.int64), "label": np.zeros(0, np.int64), "path": np.zeros(0, "U1")}
    return {**{name: np.zeros((0, width), np.float32) for name, width in widths.items()}, **empty}
